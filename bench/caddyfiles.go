package main

import "text/template"

// caddyfileFields are what the templates of Caddyfiles are filled with.
type caddyfileFields struct {
	Admin   string
	Port    int
	Gateway bool
	Nodes   []string
	Slots   int

	Words  []string // what else stands in the global options
	Site   []string // what else stands in the site
	Cache  []string // what stands in the block cache; nil: no such block
	Shared bool     // all clients of all gateways share their answers
	Body   string   // what plain Caddy answers to everything; "": it asks the nodes
	Dir    string   // of the bench's files
}

// plainCaddyfile is what the two proxies run: the same server, and in it either handler. The
// gateway has slots, streams and a queue that nothing of the bench fills.
var plainCaddyfile = template.Must(template.New("").Parse(`{
	admin unix/{{.Admin}}
	persist_config off
	auto_https off
{{- if .Gateway}}
	ollama {
{{- $slots := .Slots}}
{{- range .Nodes}}
		node {{.}} {
			slots {{$slots}}
		}
{{- end}}
		queue {
			max_length 8192
		}
{{- range .Words}}
		{{.}}
{{- end}}
	}
{{- end}}
}

http://:{{.Port}} {
	bind 127.0.0.1
{{- range .Site}}
	{{.}}
{{- end}}
{{- if .Gateway}}
	ollama
{{- else}}
	reverse_proxy {{range .Nodes}}{{.}} {{end}}{
		lb_policy least_conn
		flush_interval -1
	}
{{- end}}
}
`))

// drillCaddyfile is what they run when a node fails. Both look after the nodes each half
// second, because the faults of the bench last seconds, not minutes. Else the gateway has its
// defaults; plain Caddy has what its documentation offers against faults, and the request
// bodies in memory, without which a POST cannot be tried again.
//
// It has no limit for the first byte: a cold load takes minutes, and it cannot tell one.
var drillCaddyfile = template.Must(template.New("").Parse(`{
	admin unix/{{.Admin}}
	persist_config off
	auto_https off
{{- if .Gateway}}
	ollama {
{{- $slots := .Slots}}
{{- range .Nodes}}
		node {{.}} {
			slots {{$slots}}
		}
{{- end}}
		health {
			interval 500ms
		}
	}
{{- end}}
}

http://:{{.Port}} {
	bind 127.0.0.1
{{- if .Gateway}}
	ollama
{{- else}}
	reverse_proxy {{range .Nodes}}{{.}} {{end}}{
		lb_policy least_conn
		lb_retries 2
		lb_try_duration 3s
		lb_try_interval 50ms
		lb_retry_match {
			method GET POST
		}
		health_uri /api/version
		health_interval 500ms
		health_timeout 2s
		health_passes 2
		health_fails 3
		fail_duration 10s
		max_fails 3
		unhealthy_status 5xx
		request_buffers 1MiB
		flush_interval -1
		transport http {
			dial_timeout 2s
			keepalive_idle_conns_per_host 256
		}
	}
{{- end}}
}
`))

// cacheCaddyfile is the plain one, but for the cache, and for what plain Caddy answers.
var cacheCaddyfile = template.Must(template.New("").Parse(`{
	admin unix/{{.Admin}}
	persist_config off
	auto_https off
{{- if .Gateway}}
	ollama {
{{- $slots := .Slots}}
{{- range .Nodes}}
		node {{.}} {
			slots {{$slots}}
		}
{{- end}}
		queue {
			max_length 8192
		}
{{- with .Cache}}
		cache {
{{- range .}}
			{{.}}
{{- end}}
		}
{{- end}}
	}
{{- end}}
}

http://:{{.Port}} {
	bind 127.0.0.1
{{- if and .Gateway .Shared}}
	ollama {
		tenant shared
	}
{{- else if .Gateway}}
	ollama
{{- else if .Body}}
	header Content-Type "application/json; charset=utf-8"
	respond ` + "`{{.Body}}`" + `
{{- else}}
	reverse_proxy {{range .Nodes}}{{.}} {{end}}{
		lb_policy least_conn
		flush_interval -1
	}
{{- end}}
}
`))
