package store

import (
	"context"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// CreateImage stores an image once.
func (d *DB) CreateImage(ctx context.Context, i blog.Image) error {
	return d.exec(ctx, "store an image", `INSERT INTO images (name, type, author, created_at, bytes) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (name) DO NOTHING`, i.Name, i.Type, i.Author, micros(i.Created), i.Bytes)
}

// Image is an image with its bytes.
func (d *DB) Image(ctx context.Context, name string) (blog.Image, error) {
	i := blog.Image{Name: name}
	err := d.read.QueryRowContext(ctx, "SELECT type, author, created_at, bytes FROM images WHERE name = $1", name).
		Scan(&i.Type, &i.Author, moment{&i.Created}, &i.Bytes)
	return i, d.failed(ctx, "read an image", err)
}

// ImageNames lists all.
func (d *DB) ImageNames(ctx context.Context) ([]string, error) {
	var names []string
	err := d.rows(ctx, "list images", func(row scanner) error {
		var name string
		err := row.Scan(&name)
		names = append(names, name)
		return err
	}, "SELECT name FROM images ORDER BY name")
	return names, err
}
