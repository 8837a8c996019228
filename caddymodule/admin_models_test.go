package caddymodule

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// pullingNode is a simulated node that has a model n after a pull, once it may go on.
func pullingNode(t *testing.T, proceed <-chan struct{}) string {
	t.Helper()
	at, err := url.Parse(startNode(t, fast("m")))
	if err != nil {
		t.Fatal(err)
	}
	behind := httputil.NewSingleHostReverseProxy(at)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/pull" {
			behind.ServeHTTP(w, r)
			return
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"status":"pulling manifest"}`+"\n"+`{"status":"pulling c5","digest":"sha256:c5","total":10,"completed":5}`+"\n")
		w.(http.Flusher).Flush()
		select {
		case <-proceed:
		case <-r.Context().Done():
			return
		}
		resp := post(t, http.DefaultClient, at.String()+"/api/copy", `{"source":"m","destination":"n"}`)
		resp.Body.Close()
		io.WriteString(w, `{"status":"success"}`+"\n")
	}))
	t.Cleanup(func() { front.CloseClientConnections(); front.Close() })
	return front.URL
}

func TestAdmin_OrdersTellOfEachNodeAsTheyGo(t *testing.T) {
	proceed := make(chan struct{})
	a, dead := pullingNode(t, proceed), "http://"+freeAddress(t)
	c := adminClient(t, "ollama {\nnode "+a+" {\nname big\n}\nnode "+dead+" {\nname gone\n}\n}")
	eventually(t, "the node is up", func() bool {
		_, body := get(t, c, "http://localhost"+modelsPath)
		return strings.Contains(body, `"model":"m:latest"`)
	})
	resp := post(t, c, "http://localhost"+pullPath, `{"model":"n","nodes":["big","gone"]}`)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	var got []string
	for lines.Scan() {
		got = append(got, lines.Text())
		if strings.Contains(lines.Text(), `"completed":5`) {
			close(proceed) // what goes before was told before the end
		}
	}
	want := []string{
		`{"node":"gone","error":"it could not be reached","reason":"unreachable"}`,
		`{"node":"big","status":"pulling c5","digest":"sha256:c5","total":10,"completed":5}`,
		`{"node":"big","status":"success"}`,
		`{"done":true,"ok":["big"],"failed":["gone"]}`,
	}
	for _, w := range want {
		if !strings.Contains(strings.Join(got, "\n"), w) {
			t.Errorf("got\n%s\nwant %s in it", strings.Join(got, "\n"), w)
		}
	}
	if len(got) == 0 || got[len(got)-1] != want[3] {
		t.Errorf("the last line is not %s", want[3])
	}

	var matrix modelMatrix
	if _, body := get(t, c, "http://localhost"+modelsPath); json.Unmarshal([]byte(body), &matrix) != nil || len(matrix.Models) != 2 ||
		matrix.Models[1].Model != "n:latest" || matrix.Models[1].Nodes[0].Node != "big" || matrix.Models[1].Nodes[0].Digest == "" || len(matrix.Nodes) != 2 {
		t.Errorf("got %s", body)
	}
	resp = post(t, c, "http://localhost"+deletePath, `{"model":"n"}`)
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != `{"node":"big","status":"success"}`+"\n"+`{"done":true,"ok":["big"],"failed":[]}`+"\n" {
		t.Errorf("got %s", body)
	}
	if _, body := get(t, c, "http://localhost"+modelsPath); strings.Contains(body, "n:latest") {
		t.Errorf("still there: %s", body)
	}
}

func TestAdmin_OrdersThatCannotBeMeantAreRefused(t *testing.T) {
	c := adminClient(t, "ollama {\nnode "+startNode(t, fast("m"))+"\n}")
	for name, body := range map[string]string{
		"nothing": ``, "no model": `{}`, "an unknown field": `{"model":"m","insecure":true}`, "two": `{"model":"m"}{}`, "a bracket too many": `{"model":"m"}]`,
		"a bad name": `{"model":"../m"}`, "an unknown node": `{"model":"m","nodes":["nobody"]}`, "hosted": `{"model":"m:cloud"}`,
	} {
		resp, err := c.Post("http://localhost"+pullPath, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || !strings.HasPrefix(string(text), `{"error":`) {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
	}
	if status, _ := get(t, c, "http://localhost"+pullPath); status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", status)
	}
}

func TestHandler_PullsOnAllNodesThroughTheirTransports(t *testing.T) {
	proceed := make(chan struct{})
	close(proceed)
	a, b, site := pullingNode(t, proceed), pullingNode(t, proceed), socket(t)
	config, err := adapt("{\nadmin off\npersist_config off\nollama {\nnode " + a + "\nnode " + b + "\n}\n}\n" +
		"http://site {\nbind unix/" + site + "\nollama {\nmanage allow {\nrequire all\n}\n}\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	load(t, config)
	c := client(t, site, nil)
	eventually(t, "both nodes are up", func() bool {
		resp := post(t, c, "http://site/api/pull", `{"model":"n"}`)
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		return strings.Contains(string(body), `"total":20,"completed":20`) && strings.HasSuffix(string(body), `{"status":"success"}`+"\n")
	})
	if _, body := get(t, c, "http://site/api/tags"); !strings.Contains(body, `"n:latest"`) {
		t.Errorf("not listed: %s", body)
	}
}
