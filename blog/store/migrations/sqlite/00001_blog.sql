-- +goose Up
-- Times are microseconds since 1970 UTC; 0 is none.
CREATE TABLE authors (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	name       TEXT NOT NULL UNIQUE,
	shown      TEXT NOT NULL,
	password   TEXT NOT NULL,
	created_at INTEGER NOT NULL
);
-- AUTOINCREMENT: the address of a post that was removed never shows another one. The long columns are
-- last: what is behind them is read through all of their pages.
CREATE TABLE posts (
	id           INTEGER PRIMARY KEY AUTOINCREMENT,
	slug         TEXT NOT NULL,
	title        TEXT NOT NULL,
	author       INTEGER NOT NULL REFERENCES authors (id),
	draft        BOOLEAN NOT NULL,
	created_at   INTEGER NOT NULL,
	updated_at   INTEGER NOT NULL,
	published_at INTEGER NOT NULL,
	deleted_at   INTEGER NOT NULL DEFAULT 0,
	version      INTEGER NOT NULL DEFAULT 1,
	body         TEXT NOT NULL,
	html         TEXT NOT NULL,
	text         TEXT NOT NULL
);
CREATE INDEX posts_published ON posts (published_at DESC, id DESC) WHERE NOT draft AND deleted_at = 0;
CREATE INDEX posts_drafts ON posts (updated_at DESC, id DESC) WHERE draft AND deleted_at = 0;
CREATE INDEX posts_deleted ON posts (deleted_at DESC, id DESC) WHERE deleted_at > 0;
CREATE TABLE post_tags (
	post INTEGER NOT NULL REFERENCES posts (id) ON DELETE CASCADE,
	tag  TEXT NOT NULL,
	PRIMARY KEY (tag, post)
) WITHOUT ROWID;
CREATE INDEX post_tags_post ON post_tags (post);
-- The terms come ready from the program (package fulltext), so the tokenizer only splits at spaces,
-- and their order says nothing. everything has the terms of the title, the tags and the text.
CREATE VIRTUAL TABLE post_search USING fts5 (
	title, everything, content = '', contentless_delete = 1, detail = column, tokenize = 'ascii', prefix = '1 3 4'
);
CREATE TABLE sessions (
	hash       BLOB PRIMARY KEY,
	author     INTEGER NOT NULL REFERENCES authors (id) ON DELETE CASCADE,
	created_at INTEGER NOT NULL,
	expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_author ON sessions (author);
CREATE TABLE links (
	hash       BLOB PRIMARY KEY,
	author     INTEGER NOT NULL REFERENCES authors (id) ON DELETE CASCADE,
	expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE attempts (
	key      TEXT PRIMARY KEY,
	failures INTEGER NOT NULL,
	last_at  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE images (
	name       TEXT PRIMARY KEY,
	type       TEXT NOT NULL,
	author     INTEGER NOT NULL REFERENCES authors (id),
	created_at INTEGER NOT NULL,
	bytes      BLOB NOT NULL
);
-- One row, counted up by each change of what readers see: whoever keeps pages asks whether they are as new.
CREATE TABLE changes (n INTEGER NOT NULL);
INSERT INTO changes VALUES (0);
