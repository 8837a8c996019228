// Package status shows what a gateway does: a read-only web page that is live, the report it is
// made from, and the history in that report.
//
// The page is whole without JavaScript: the server renders it, and a stream of server-sent events
// carries the same rendering again and again for who has it. What it consists of is embedded, its
// addresses are relative, and nothing in it is inline, so that it works under any path and a strict
// content security policy. Who may see it is not decided here. status knows nothing of Caddy.
package status
