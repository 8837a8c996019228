package caddymodule

import (
	"bytes"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/people"
	"github.com/caddy-ollama/caddy-ollama/blog/store"
	"github.com/caddy-ollama/caddy-ollama/internal/pgtest"
)

// runBlog runs the command as it stands below `ollama`.
func runBlog(stdin string, args ...string) (out, errs string, err error) {
	root := &cobra.Command{Use: "ollama", SilenceErrors: true, SilenceUsage: true}
	cmd := &cobra.Command{Use: "blog " + blogCommand.Usage}
	blogCommand.CobraFunc(cmd)
	root.AddCommand(cmd)
	var o, e bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&o)
	root.SetErr(&e)
	root.SetArgs(append([]string{"blog"}, args...))
	err = root.Execute()
	return o.String(), e.String(), err
}

// mustRunBlog gives the standard output.
func mustRunBlog(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, errs, err := runBlog(stdin, args...)
	if err != nil {
		t.Fatalf("%q: %v\n%s%s", args, err, out, errs)
	}
	return out
}

// openBlog opens a database that is there.
func openBlog(t *testing.T, path string) *store.SQLite {
	t.Helper()
	s, err := store.OpenSQLite(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

const importedPost = "---\ntitle: From elsewhere\ntags: [a, b]\ncreated: 2026-01-02T03:04:05Z\npublished: 2026-01-02T03:04:05Z\n---\nSome *text*.\n"

// writePosts makes a directory as export does.
func writePosts(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "posts"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "posts", "one.md"), []byte(importedPost), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBlogCommand_PostsGoInAndOut(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("BLOG_DATABASE_URL", pgtest.Start(t).Database())
	for name, database := range map[string][]string{
		"the default":   nil,
		"a path":        {"--database", "sqlite:" + filepath.Join(t.TempDir(), "deep", "blog.db")},
		"a placeholder": {"--database", "{env.BLOG_DATABASE_URL}"},
	} {
		t.Run(name, func(t *testing.T) {
			if name != "a placeholder" {
				if _, _, err := runBlog("", append([]string{"export", t.TempDir()}, database...)...); err == nil || !strings.Contains(err.Error(), "there is no blog at") {
					t.Errorf("exporting nothing: %v", err)
				}
			}
			from, to := writePosts(t), filepath.Join(t.TempDir(), "posts")
			in := append([]string{"import", from}, database...)
			if out := mustRunBlog(t, "", in...); out != "1 post made, 0 updated, 0 unchanged, 0 images\n" {
				t.Errorf("import: %s", out)
			}
			if out := mustRunBlog(t, "", append([]string{"export", to}, database...)...); !strings.HasPrefix(out, "1 post and 0 images are in "+to) {
				t.Errorf("export: %s", out)
			}
			text, err := os.ReadFile(filepath.Join(to, "posts", "000001-from-elsewhere.md"))
			if err != nil || !strings.Contains(string(text), "Some *text*.") || !strings.Contains(string(text), "author: "+firstAuthor) {
				t.Errorf("exported: %s, %v", text, err)
			}
			if out := mustRunBlog(t, "", append([]string{"import", to}, database...)...); !strings.HasPrefix(out, "0 posts made, 0 updated, 1 unchanged") {
				t.Errorf("importing what was exported: %s", out)
			}
		})
	}
}

func TestBlogCommand_AuthorsSignIn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blog.db")
	database := "sqlite:" + path
	out := mustRunBlog(t, "", "user", "Ann", "--link", "--database", database, "--url", "https://blog.example.com/")
	link, err := url.Parse(strings.TrimSpace(out))
	if err != nil || link.Host != "blog.example.com" || link.Path != "/login/link" {
		t.Fatalf("link: %q, %v", out, err)
	}
	p := people.New(openBlog(t, path))
	session, err := p.UseLink(t.Context(), link.Query().Get("token"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if a, err := p.SignedIn(t.Context(), session, time.Now()); err != nil || a.Name != "ann" {
		t.Errorf("signed in: %+v, %v", a, err)
	}
	if _, err := p.UseLink(t.Context(), link.Query().Get("token"), time.Now()); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("the link a second time: %v", err)
	}

	// A password for who is there ends what is signed in, and one for who is not makes the author.
	for _, name := range []string{"ann", "bob"} {
		out, errs, err := runBlog("correct horse\nnot this", "user", name, "--password-stdin", "--shown", "Somebody", "--database", database)
		if err != nil || strings.Contains(out+errs, "horse") {
			t.Fatalf("%s: %v %s%s", name, err, out, errs)
		}
		if _, err := p.Login(t.Context(), name, "correct horse", "here", time.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.SignedIn(t.Context(), session, time.Now()); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("a session from before the new password: %v", err)
	}
	if out := mustRunBlog(t, "", "user", "bob", "--link", "--database", database); !strings.HasPrefix(out, "https://localhost:8443/login/link?token=") {
		t.Errorf("without an address: %s", out)
	}
}

func TestBlogCommand_BacksUpWhileItIsUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blog.db")
	f := newBlogFront(t, "", "database sqlite "+path)
	p := f.write("Kept", "Body.")
	copied := filepath.Join(t.TempDir(), "copy.db")
	mustRunBlog(t, "", "backup", copied, "--database", "sqlite:"+path)
	if got, err := openBlog(t, copied).Post(t.Context(), p.ID); err != nil || got.Title != "Kept" {
		t.Errorf("in the copy: %q, %v", got.Title, err)
	}
	if status, _ := f.get(p.Path()); status != 200 {
		t.Errorf("the blog: %d", status)
	}
}

// The blog of a configuration is found wherever its directive stands.
func TestBlogCommand_FindsTheBlogOfAConfiguration(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "blog.db")
	write := func(text string) string {
		t.Helper()
		file := filepath.Join(dir, "Caddyfile")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	one := "blog.example.com, www.example.com {\nhandle /x/* {\nrespond 204\n}\nhandle {\nollama_blog {\ndatabase sqlite " + path + "\nurl https://blog.example.com\n}\n}\n}\n"
	out := mustRunBlog(t, "", "user", "ann", "--link", "--config", write(one))
	if !strings.HasPrefix(out, "https://blog.example.com/login/link?token=") {
		t.Errorf("got %s", out)
	}
	if _, err := openBlog(t, path).AuthorByName(t.Context(), "ann"); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"none":       {"http://x {\nrespond 204\n}\n", "has no ollama_blog"},
		"two":        {one + "notes.example.com {\nollama_blog {\ndatabase sqlite " + path + "2\n}\n}\n", "has 2 blogs; say which with --database"},
		"no address": {"http://x {\nollama_blog {\ndatabase sqlite " + path + "\n}\n}\n", "say with --url"},
		"wrong":      {"http://x {\nollama_blog {\nwrong\n}\n}\n", "Caddyfile:3"},
	} {
		if _, _, err := runBlog("", "user", "ann", "--link", "--config", write(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestBlogCommand_SaysWhatIsWrong(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	database := "sqlite:" + filepath.Join(t.TempDir(), "blog.db")
	for _, c := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"", []string{"export"}, "say one DIR, as in: caddy-ollama blog export posts/"},
		{"", []string{"user"}, "say one NAME"},
		{"", []string{"user", "ann"}, "--link or with --password-stdin"},
		{"", []string{"user", "ann", "--link", "--password-stdin"}, "--link or with --password-stdin"},
		{"", []string{"user", "a b", "--link", "--database", database}, people.ErrName.Error()},
		{"short\n", []string{"user", "ann", "--password-stdin", "--database", database}, people.ErrPassword.Error()},
		{"\n", []string{"user", "ann", "--password-stdin", "--database", database}, "the standard input has no password"},
		{"", []string{"user", "ann", "--link", "--url", "blog.example.com"}, "--url:"},
		{"", []string{"export", "x", "--database", "mysql://x"}, "--database is written as in sqlite:blog.db"},
		{"", []string{"export", "x", "--database", "{env.NOT_THERE_AT_ALL}"}, "--database:"},
		{"", []string{"export", "x", "--database", database, "--config", "Caddyfile"}, "one of --database and --config"},
		{"", []string{"backup", "x", "--database", "postgres://u@h/d"}, "pg_dump"},
		{"", []string{"backup", "x", "--database", database + "2"}, "there is no blog at"},
		{"", []string{"import", filepath.Join(t.TempDir(), "none"), "--database", database}, "none"},
	} {
		if _, _, err := runBlog(c.stdin, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}
