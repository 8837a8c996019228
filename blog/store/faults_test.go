package store

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/internal/pgtest"
)

// Other processes are this test binary, told by the environment what to do with which file.
const (
	childTask = "BLOG_STORE_CHILD"
	childFile = "BLOG_STORE_FILE"
)

func TestMain(m *testing.M) {
	switch os.Getenv(childTask) {
	case "":
		os.Exit(m.Run())
	case "write":
		writeForEver(os.Getenv(childFile))
	case "lock":
		lockUntilRead(os.Getenv(childFile))
	}
}

// child starts another process and returns what it says and the way to end it.
func child(t *testing.T, task, path string) (says *bufio.Scanner, cmd *exec.Cmd, stdin io.Closer) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childTask+"="+task, childFile+"="+path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return bufio.NewScanner(out), cmd, in
}

// writeForEver writes posts and says the id of each when it is stored.
func writeForEver(path string) {
	s, err := OpenSQLite(path)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		p := blog.Post{Title: fmt.Sprint("post ", i), Body: strings.Repeat("word ", 500), Author: 1, Tags: []string{"go"}}
		if err := p.Prepare(noon); err != nil {
			panic(err)
		}
		if p, err = s.CreatePost(context.Background(), p); err != nil {
			panic(err)
		}
		fmt.Println(p.ID)
	}
}

// lockUntilRead keeps everybody else from writing until its input ends.
func lockUntilRead(path string) {
	db, err := sql.Open("sqlite", sqliteName(path))
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN EXCLUSIVE"); err != nil {
		panic(err)
	}
	fmt.Println("locked")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func openFile(t *testing.T, path string) *SQLite {
	t.Helper()
	s, err := OpenSQLite(path)
	opened(t, s, err)
	return s
}

func TestSQLite_KillLosesNoStoredPost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blog.db")
	s := openFile(t, path)
	author(t, s, "ann")
	var stored []int64
	for range 5 {
		says, cmd, _ := child(t, "write", path)
		for range 7 {
			if !says.Scan() {
				t.Fatal("the writing process ended by itself")
			}
			id, err := strconv.ParseInt(says.Text(), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, id)
		}
		if err := cmd.Process.Kill(); err != nil { // kill -9, in the middle of the next one
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	s.Close()
	s = openFile(t, path)
	for _, id := range stored {
		if _, err := s.Post(t.Context(), id); err != nil {
			t.Errorf("a stored post is lost: %v", err)
		}
	}
	var intact string
	if err := s.write.QueryRow("PRAGMA integrity_check").Scan(&intact); err != nil || intact != "ok" {
		t.Errorf("integrity check: %s, %v", intact, err)
	}
	var posts, indexed int
	if err := s.read.QueryRow("SELECT (SELECT count(*) FROM posts), (SELECT count(*) FROM post_search)").Scan(&posts, &indexed); err != nil || posts != indexed {
		t.Errorf("%d posts, %d in the index, %v", posts, indexed, err)
	}
}

// Row 31 of the failure matrix: a second process with BEGIN EXCLUSIVE.
func TestSQLite_LockedIsBusyAndReadsGoOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blog.db")
	s := openFile(t, path)
	p := written(t, s, blog.Post{Title: "one", Body: "word"}, noon)
	says, cmd, stdin := child(t, "lock", path)
	if !says.Scan() || says.Text() != "locked" {
		t.Fatal("not locked")
	}
	begun := time.Now()
	_, err := s.UpdatePost(t.Context(), p)
	wantError(t, "update of a locked database", err, blog.ErrBusy)
	if took := time.Since(begun); took < lockWait/2 || took > 5*lockWait {
		t.Errorf("it took %v, want about %v", took, lockWait)
	}
	if _, err := s.Post(t.Context(), p.ID); err != nil {
		t.Errorf("read of a locked database: %v", err)
	}
	if got := search(t, s, "word"); got != "one" {
		t.Errorf("search of a locked database: %q", got)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begun = time.Now()
	_, err = s.UpdatePost(short, p)
	wantError(t, "update with little time", err, blog.ErrBusy)
	if took := time.Since(begun); took > 4*lockWait {
		t.Errorf("with 100ms to wait it took %v", took)
	}
	stdin.Close()
	_ = cmd.Wait()
	if _, err := s.UpdatePost(t.Context(), p); err != nil {
		t.Errorf("update after the lock: %v", err)
	}
}

// Row 32.
func TestSQLite_FullDiskIsBusyAndNothingIsBroken(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "blog.db"))
	p := written(t, s, blog.Post{Title: "one"}, noon)
	var pages int
	if err := s.write.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	limit := func(pages int) {
		t.Helper()
		if err := s.write.QueryRow(fmt.Sprintf("PRAGMA max_page_count = %d", pages)).Scan(&pages); err != nil {
			t.Fatal(err)
		}
	}
	limit(pages + 2)
	long := p
	long.Body = strings.Repeat("word ", 20000)
	if err := long.Prepare(noon); err != nil {
		t.Fatal(err)
	}
	_, err := s.UpdatePost(t.Context(), long)
	wantError(t, "update with a full disk", err, blog.ErrBusy)
	got, err := s.Post(t.Context(), p.ID)
	if err != nil || got.Version != p.Version || got.Body != "" {
		t.Errorf("after a failed update: version %d, %d bytes, %v", got.Version, len(got.Body), err)
	}
	limit(1 << 30)
	if _, err := s.UpdatePost(t.Context(), long); err != nil {
		t.Errorf("update with room again: %v", err)
	}
}

func TestSQLite_GoneFileIsBusy(t *testing.T) {
	for name, remove := range map[string]func(path string) error{
		"removed": os.Remove,
		"replaced": func(path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "blog.db")
			s := openFile(t, path)
			author(t, s, "ann")
			if err := remove(path); err != nil {
				t.Fatal(err)
			}
			_, err := s.CreateAuthor(t.Context(), blog.Author{Name: "bob"})
			wantError(t, "write", err, blog.ErrBusy)
		})
	}
}

func TestSQLite_UnusableFileIsBusy(t *testing.T) {
	dir := t.TempDir()
	notADatabase := filepath.Join(dir, "text")
	if err := os.WriteFile(notADatabase, []byte(strings.Repeat("not a database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"not a database": notADatabase,
		"a directory":    dir,
		"below a file":   filepath.Join(notADatabase, "blog.db"),
	} {
		s, err := OpenSQLite(path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		wantError(t, "migrate "+name, s.Migrate(t.Context()), blog.ErrBusy)
		_, err = s.Posts(t.Context(), blog.Query{})
		wantError(t, "read "+name, err, blog.ErrBusy)
	}
}

func TestSQLite_OpeningCreatesNothing(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenSQLite(filepath.Join(dir, "new", "blog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Posts(t.Context(), blog.Query{})
	wantError(t, "read before Migrate", err, blog.ErrBusy)
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("it made %v", entries)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "new", "blog.db"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode: %v, %v, want 0600", info.Mode(), err)
	}
}

func TestPostgres_GoneIsBusyUntilItIsBack(t *testing.T) {
	server := pgtest.Start(t)
	pg, err := OpenPostgres(server.Database())
	s := opened(t, pg, err)
	p := written(t, s, blog.Post{Title: "one"}, noon)
	server.Stop()
	for range 3 { // the connections it had, and new ones
		_, err = s.Post(t.Context(), p.ID)
		wantError(t, "read without a server", err, blog.ErrBusy)
		_, err = s.UpdatePost(t.Context(), p)
		wantError(t, "update without a server", err, blog.ErrBusy)
	}
	wantError(t, "migrate without a server", s.Migrate(t.Context()), blog.ErrBusy)
	server.Start()
	if _, err := s.UpdatePost(t.Context(), p); err != nil {
		t.Errorf("update when it is back: %v", err)
	}

	tx, err := pg.write.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("LOCK TABLE posts IN EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	_, err = s.UpdatePost(t.Context(), p)
	wantError(t, "update of a locked table", err, blog.ErrBusy)
	if _, err := s.Post(t.Context(), p.ID); err != nil {
		t.Errorf("read of a locked table: %v", err)
	}
}
