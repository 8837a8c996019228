package caddymodule

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/people"
	"github.com/caddy-ollama/caddy-ollama/blog/store"
)

var blogCommand = caddycmd.Command{
	Name:  "blog",
	Usage: "export DIR|import DIR|user NAME|backup FILE [--database SOURCE] [--config FILE [--adapter NAME]]",
	Short: "Takes a blog's posts out and in, makes its authors, backs it up",
	Long: `
"export DIR" writes each post as a Markdown file with front matter, and each image, into DIR.
"import DIR" reads such files, and those of other programs; doing it twice changes nothing.

"user NAME" makes an author, or has one who is there sign in anew: --link prints a link that signs
in once, within a day, and --password-stdin reads a password from the standard input.

"backup FILE" writes a copy of an SQLite database to FILE while it is in use. For PostgreSQL there
is pg_dump.

The database is that of --database (sqlite:PATH, a postgres:// URL, or a placeholder such as
{env.BLOG_DATABASE_URL}, which keeps a password from who can list processes), or that of the blog in
--config, or blog.db in Caddy's data directory, where "up" has it. All of it works while the blog
is served.
`,
	CobraFunc: func(cmd *cobra.Command) {
		plain(cmd, (*cobra.Command).Help)
		cmd.AddCommand(
			blogCommandOf("export DIR", "Writes the posts as Markdown files", exportBlog),
			blogCommandOf("import DIR", "Reads Markdown files as posts", importBlog),
			blogUserCommand(),
			blogCommandOf("backup FILE", "Copies an SQLite database while it is in use", backupBlog),
		)
	},
}

// blogCommandOf makes a command with one argument.
func blogCommandOf(use, short string, run func(ctx context.Context, cmd *cobra.Command, arg string) error) *cobra.Command {
	cmd := &cobra.Command{Use: use + " [flags]", Short: short}
	f := cmd.Flags()
	f.String("database", "", "sqlite:PATH, a postgres:// URL, or a placeholder for one")
	f.StringP("config", "c", "", "configuration file that has the blog")
	f.StringP("adapter", "a", "", "name of the adapter of that file")
	plain(cmd, func(cmd *cobra.Command) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return run(ctx, cmd, cmd.Flags().Arg(0))
	})
	cmd.Args = func(_ *cobra.Command, args []string) error {
		name, what, _ := strings.Cut(use, " ")
		if len(args) != 1 || args[0] == "" {
			return fmt.Errorf("say one %s, as in: caddy-ollama blog %s %s", what, name, map[string]string{"DIR": "posts/", "FILE": "blog-backup.db", "NAME": "ann"}[what])
		}
		return nil
	}
	return cmd
}

func exportBlog(ctx context.Context, cmd *cobra.Command, dir string) error {
	return withBlog(ctx, cmd, mustExist, func(s blog.Store) error {
		done, err := blog.Export(ctx, s, dir)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s and %s are in %s\n", counted(done.Posts, "post"), counted(done.Images, "image"), dir)
		return err
	})
}

func importBlog(ctx context.Context, cmd *cobra.Command, dir string) error {
	return withBlog(ctx, cmd, mayBeNew, func(s blog.Store) error {
		author, err := importer(ctx, s)
		if err != nil {
			return err
		}
		done, err := blog.Import(ctx, s, dir, author, time.Now())
		fmt.Fprintf(cmd.OutOrStdout(), "%s made, %d updated, %d unchanged, %s\n",
			counted(done.Created, "post"), done.Updated, done.Unchanged, counted(done.Images, "image"))
		return err
	})
}

// importer is whose posts are those that say no author: the first author's, or that of a new one.
func importer(ctx context.Context, s blog.Store) (blog.Author, error) {
	authors, err := s.Authors(ctx)
	if err != nil {
		return blog.Author{}, err
	}
	if len(authors) > 0 {
		return authors[0], nil
	}
	return people.New(s).Create(ctx, firstAuthor, "", "", time.Now())
}

// firstAuthor is what the author of a new blog is called.
const firstAuthor = "author"

func blogUserCommand() *cobra.Command {
	cmd := blogCommandOf("user NAME", "Makes an author, or has one sign in anew", blogUser)
	f := cmd.Flags()
	f.Bool("link", false, "print a link that signs in once, within a day")
	f.Bool("password-stdin", false, "read a password from the standard input; it ends what is signed in")
	f.String("shown", "", "the name that readers see; default: NAME")
	f.String("url", "", "address of the blog, for the link; default: that in --config, or where \"up\" serves it")
	return cmd
}

func blogUser(ctx context.Context, cmd *cobra.Command, name string) error {
	f := caddycmd.Flags{FlagSet: cmd.Flags()}
	link, typed := f.Bool("link"), f.Bool("password-stdin")
	if link == typed {
		return errors.New("say how the author is to sign in, with --link or with --password-stdin")
	}
	address, err := blogAddress(f)
	if err != nil {
		return err
	}
	var password string
	if typed {
		if password, err = readPassword(cmd.InOrStdin()); err != nil {
			return err
		}
	}
	return withBlog(ctx, cmd, mayBeNew, func(s blog.Store) error {
		p := people.New(s)
		made := "made"
		author, err := p.Create(ctx, name, f.String("shown"), password, time.Now())
		if errors.Is(err, blog.ErrConflict) {
			made = "found"
			author, err = s.AuthorByName(ctx, strings.ToLower(name))
			if err == nil && typed {
				err = p.SetPassword(ctx, author.ID, password)
			}
		}
		if err != nil {
			return err
		}
		if typed {
			_, err := fmt.Fprintf(cmd.ErrOrStderr(), "The author %s was %s and has this password now.\n", author.Name, made)
			return err
		}
		token, err := p.NewLink(ctx, author.ID, time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "The author %s was %s. This link signs in once, within a day:\n", author.Name, made)
		_, err = fmt.Fprintln(cmd.OutOrStdout(), loginLink(address, token))
		return err
	})
}

// loginLink is where a token signs in.
func loginLink(address, token string) string {
	return strings.TrimSuffix(address, "/") + "/login/link?token=" + url.QueryEscape(token)
}

// blogAddress is how the blog is reached.
func blogAddress(f caddycmd.Flags) (string, error) {
	address := f.String("url")
	if address == "" && f.String("config") != "" {
		b, err := configuredBlog(f.String("config"), f.String("adapter"))
		if err != nil {
			return "", err
		}
		if address = b.URL; address == "" {
			return "", errors.New("the blog in --config has no url; say with --url how it is reached")
		}
	}
	if address == "" {
		address = "https://localhost:" + defaultHTTPS
	}
	if err := checkOrigin(address, "https://blog.example.com"); err != nil {
		return "", fmt.Errorf("--url: %w", err)
	}
	return address, nil
}

// readPassword reads one line.
func readPassword(from io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(from, 4<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", errors.New("the standard input has no password; it is the first line there")
	}
	return line, nil
}

func backupBlog(ctx context.Context, cmd *cobra.Command, file string) error {
	source, err := commandSource(cmd)
	if err != nil {
		return err
	}
	if source.kind != sqliteKind {
		return errors.New("backup is for SQLite; for PostgreSQL there is pg_dump")
	}
	if err := source.exists(); err != nil {
		return err
	}
	s, err := store.OpenSQLite(source.source)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Backup(ctx, file); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is copied to %s\n", source.source, file)
	return err
}
