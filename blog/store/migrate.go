package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	goosedb "github.com/pressly/goose/v3/database"
)

//go:embed migrations
var migrations embed.FS

// Migrate brings the database to the newest version, see blog.Store.
func (d *DB) Migrate(ctx context.Context) error {
	const what = "migrate the blog's database"
	unlock, err := d.dialect.lock(ctx)
	if err != nil {
		return d.failed(ctx, what, err)
	}
	defer unlock()
	provider, err := d.provider()
	if err != nil {
		return d.failed(ctx, what, err)
	}
	stored, err := provider.GetDBVersion(ctx)
	if err != nil {
		return d.failed(ctx, what, err)
	}
	sources := provider.ListSources()
	if known := sources[len(sources)-1].Version; stored > known {
		return fmt.Errorf("%s: it has version %d, this program knows %d: it was written by a newer one", what, stored, known)
	}
	if _, err := provider.Up(ctx); err != nil {
		return d.failed(ctx, what, err)
	}
	return d.failed(ctx, what, d.dialect.migrated())
}

// SchemaVersion is the version the database has.
func (d *DB) SchemaVersion(ctx context.Context) (int64, error) {
	provider, err := d.provider()
	if err != nil {
		return 0, err
	}
	version, err := provider.GetDBVersion(ctx)
	return version, d.failed(ctx, "ask for the version of the blog's database", err)
}

func (d *DB) provider() (*goose.Provider, error) {
	dir, err := fs.Sub(migrations, "migrations/"+d.dialect.migrationsDir())
	if err != nil {
		return nil, err
	}
	dialect := goosedb.DialectSQLite3
	if d.dialect.migrationsDir() == "postgres" {
		dialect = goosedb.DialectPostgres
	}
	return goose.NewProvider(dialect, d.write, dir)
}
