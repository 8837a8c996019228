package replica

import (
	"log/slog"
	"strings"
	"testing"
)

func TestCheck_TakesWhatCanBeAsked(t *testing.T) {
	for _, url := range []string{
		"redis://localhost", "redis://localhost:6379", "redis://localhost:6379/", "redis://localhost/3",
		"redis://:secret@10.0.0.1:6379/0", "redis://user:secret@[::1]:6379/0", "rediss://user:se%23cret@redis.internal:6380/1",
		"unix:///run/redis.sock", "unix://user:secret@/run/redis.sock?db=2", "redis://localhost?db=2&pool_size=10",
		"rediss://localhost?skip_verify=true", "redis://localhost?client_name=gateway&protocol=3",
		"redis://localhost?conn_max_idle_time=5m&conn_max_lifetime=1h",
	} {
		if err := Check(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestCheck_SaysWhatIsWrongWithoutThePassword(t *testing.T) {
	for _, tt := range []struct{ name, url, want string }{
		{"nothing", "", "must begin with"},
		{"another scheme", "http://user:hunter2@localhost", "must begin with redis://"},
		{"no scheme", "user:hunter2@localhost", "must begin with"},
		{"no slashes", "redis:hunter2@localhost", "begin with redis://"},
		{"no host", "redis://:hunter2@/0", "has no host"},
		{"a slash in the password", "redis://user:1/hunter2@host/0", "%2F"},
		{"a slash after digits", "redis://user:6379/hunter2@host", "number of a database"},
		{"a question mark in the password", "redis://user:6379?hunter2@host", "option"},
		{"a hash in the password", "redis://host:6379#hunter2@host", "%23"},
		{"a hash at the end", "redis://hunter2#", "%23"},
		{"a percent in the password", "redis://user:%zzhunter2@host", "%-escapes"},
		{"a blank in the password", "redis://user:hunter2 @host", "%-escapes"},
		{"a control character", "redis://user:hunter2\n@host", "%-escapes"},
		{"two databases", "redis://:hunter2@host/0/1", "number of a database"},
		{"a named database", "redis://:hunter2@host/hunter2", "number of a database"},
		{"a negative database", "redis://host/-1", "number of a database"},
		{"a negative database as an option", "unix:///run/redis.sock?db=-1", "number of a database"},
		{"a time limit of its own", "redis://:hunter2@host?read_timeout=5s", "there are client_name"},
		{"retries", "redis://:hunter2@host?max_retries=3", "there are client_name"},
		{"an unknown option", "redis://:hunter2@host?hunter2=1", "there are client_name"},
		{"a bad value", "redis://:hunter2@host?pool_size=hunter2", "no value it can have"},
		{"verification of nothing", "redis://:hunter2@host?skip_verify=true", "not for this scheme"},
		{"a huge pool", "redis://:hunter2@host?pool_size=99999999999", "between 1 and 4096"},
		{"a pool too large", "redis://:hunter2@host?pool_size=5000", "between 1 and 4096"},
		{"a negative pool", "redis://:hunter2@host?pool_size=-1", "between 1 and 4096"},
		{"a socket without a path", "unix://run:hunter2", "%-escapes"},
		{"a socket with a host", "unix://hunter2/redis.sock", "absolute path"},
		{"a bad escape in the options", "redis://host?db=%zzhunter2", "cannot be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Check(tt.url)
			if err == nil {
				t.Fatalf("%q was taken", tt.url)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q: %v, want %q in it", tt.url, err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is repeated: %v", err)
			}
			if c, err := Open(Options{URL: tt.url}, slog.New(slog.DiscardHandler), nil); err == nil {
				c.Close()
				t.Error("Open took what Check did not")
			}
		})
	}
}

func FuzzCheck_NeverPanicsAndNeverRepeats(f *testing.F) {
	f.Add("redis://user:", "@host:6379/0?db=1")
	f.Add("unix://", "@/run/redis.sock")
	f.Fuzz(func(t *testing.T, before, after string) {
		const password = "hunter2"
		if err := Check(before + password + after); err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("%q: %v", before+password+after, err)
		}
		if c, err := Open(Options{URL: before + password + after}, slog.New(slog.DiscardHandler), nil); err == nil {
			c.Close()
		}
	})
}
