package store

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/internal/pgtest"
)

// A new version gets a file of its own, and keeps those of the earlier ones: run with -update before
// the migration after it is written.
var update = flag.Bool("update", false, "write the file of the newest version anew")

// earlier lists each version that blogs may have.
var earlier = []string{"v1"}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
}

func TestMigrate_SQLiteFromEachVersion(t *testing.T) {
	if *update {
		dir := t.TempDir()
		s := openFile(t, filepath.Join(dir, "blog.db"))
		furnish(t, s)
		newest := earlier[len(earlier)-1]
		if err := s.Backup(t.Context(), filepath.Join("testdata", newest+".db")); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range earlier {
		t.Run(version, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "blog.db")
			copyFile(t, filepath.Join("testdata", version+".db"), path)
			s := openFile(t, path)
			checkFurnished(t, s)
			fresh := openFile(t, filepath.Join(t.TempDir(), "blog.db"))
			const schema = "SELECT coalesce(sql, name) FROM sqlite_master"
			if diff := cmp.Diff(schemaOf(t, fresh.DB, schema), schemaOf(t, s.DB, schema)); diff != "" {
				t.Errorf("schema of a migrated database, beside a new one's (-new +migrated):\n%s", diff)
			}
		})
	}
}

func TestMigrate_PostgreSQLFromEachVersion(t *testing.T) {
	server := pgtest.Start(t)
	if *update {
		url := server.Database()
		s, err := OpenPostgres(url)
		furnish(t, opened(t, s, err))
		newest := earlier[len(earlier)-1]
		if err := os.WriteFile(filepath.Join("testdata", newest+".sql"), server.Dump(url), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range earlier {
		t.Run(version, func(t *testing.T) {
			url := server.Database()
			dump, err := os.ReadFile(filepath.Join("testdata", version+".sql"))
			if err != nil {
				t.Fatal(err)
			}
			server.Restore(url, dump)
			s, err := OpenPostgres(url)
			checkFurnished(t, opened(t, s, err))
			fresh, err := OpenPostgres(server.Database())
			opened(t, fresh, err)
			const schema = `SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL
				SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default, collation_name, identity_generation)
				FROM information_schema.columns WHERE table_schema = 'public' UNION ALL
				SELECT concat_ws(' ', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = 'public'::regnamespace`
			if diff := cmp.Diff(schemaOf(t, fresh.DB, schema), schemaOf(t, s.DB, schema)); diff != "" {
				t.Errorf("schema of a migrated database, beside a new one's (-new +migrated):\n%s", diff)
			}
		})
	}
}

// schemaOf is what a query says of the schema, in an order that does not depend on when what was made.
func schemaOf(t *testing.T, d *DB, query string) (lines []string) {
	t.Helper()
	err := d.rows(t.Context(), "read the schema", func(row scanner) error {
		var line string
		err := row.Scan(&line)
		lines = append(lines, line)
		return err
	}, query)
	if err != nil || len(lines) < 10 {
		t.Fatalf("a schema of %d lines, %v", len(lines), err)
	}
	slices.Sort(lines)
	return lines
}

// furnish fills a blog for testdata.
func furnish(t *testing.T, s blog.Store) {
	t.Helper()
	p := written(t, s, blog.Post{Title: "Welcome 欢迎", Body: "# Hello\n\n我们在北京 with `code`", Tags: []string{"go", "日记"}}, noon)
	written(t, s, blog.Post{Title: "Draft", Draft: true, Author: p.Author}, noon)
	gone := written(t, s, blog.Post{Title: "Gone", Author: p.Author}, noon)
	if err := s.DeletePost(t.Context(), gone.ID, noon); err != nil {
		t.Fatal(err)
	}
	image, err := blog.NewImage([]byte(pixel), p.Author, noon)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateImage(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateSession(t.Context(), blog.Session{Hash: blog.TokenHash{1}, Author: p.Author, Created: noon, Expires: noon.AddDate(50, 0, 0)}); err != nil {
		t.Fatal(err)
	}
}

func checkFurnished(t *testing.T, s blog.Store) {
	t.Helper()
	for text, want := range map[string]string{"北京": "Welcome 欢迎", "code": "Welcome 欢迎", "日记": "Welcome 欢迎", "gone": ""} {
		if got := search(t, s, text); got != want {
			t.Errorf("search %q: got %q, want %q", text, got, want)
		}
	}
	if got := list(t, s, blog.Query{Tag: "go"}) + "|" + list(t, s, blog.Query{Show: blog.Drafts}) + "|" + list(t, s, blog.Query{Show: blog.Deleted}); got != "Welcome 欢迎|Draft|Gone" {
		t.Errorf("lists: %q", got)
	}
	if _, err := s.Session(t.Context(), blog.TokenHash{1}, noon); err != nil {
		t.Errorf("session: %v", err)
	}
	names, err := s.ImageNames(t.Context())
	if err != nil || len(names) != 1 {
		t.Fatalf("images: %v, %v", names, err)
	}
	if image, err := s.Image(t.Context(), names[0]); err != nil || string(image.Bytes) != pixel {
		t.Errorf("image: %v", err)
	}
	// It is of the newest version in use, too.
	p := written(t, s, blog.Post{Title: "After", Author: 1}, noon.Add(time.Hour))
	if _, err := s.UpdatePost(t.Context(), p); err != nil {
		t.Error(err)
	}
}

func TestMigrate_RefusesNewerDatabase(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "blog.db"))
	if _, err := s.write.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)"); err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "written by a newer one") {
		t.Errorf("got error %v, want one that says that it is newer", err)
	}
}

func TestMigrate_WaitsForOthersAsLongAsItMay(t *testing.T) {
	server := pgtest.Start(t)
	pg, err := OpenPostgres(server.Database())
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Close()
	lite, err := OpenSQLite(filepath.Join(t.TempDir(), "blog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer lite.Close()
	for name, d := range map[string]*DB{"SQLite": lite.DB, "PostgreSQL": pg.DB} {
		unlock, err := d.dialect.lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		wantError(t, name+" while another migrates", d.Migrate(ctx), blog.ErrBusy)
		unlock()
		if err := d.Migrate(t.Context()); err != nil {
			t.Errorf("%s afterwards: %v", name, err)
		}
	}
}

func TestBackup_IsWholeWhileOthersWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "blog.db")
	s := openFile(t, path)
	author(t, s, "ann")
	says, _, _ := child(t, "write", path)
	for range 5 {
		says.Scan()
	}
	last := says.Text()
	to := filepath.Join(dir, "it's a \"backup\".db")
	for range 2 { // the second replaces the first
		if err := s.Backup(t.Context(), to); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(to)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	b := openFile(t, to)
	var have int64
	if err := b.read.QueryRow("SELECT count(*) FROM posts WHERE id <= " + last).Scan(&have); err != nil || have < 5 {
		t.Errorf("the backup has %d of the first %s posts, %v", have, last, err)
	}
	if page, err := b.Search(t.Context(), blog.SearchQuery{Text: "word"}); err != nil || len(page.Hits) < 5 {
		t.Errorf("search in the backup: %d hits, %v", len(page.Hits), err)
	}
	wantError(t, "backup to nowhere", s.Backup(t.Context(), filepath.Join(dir, "absent", "x.db")), os.ErrNotExist)
}
