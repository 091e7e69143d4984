package eventstream

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
)

// Engine is the kind of database that an event is inserted into.
type Engine int

// The engines. MySQL is MariaDB too.
const (
	SQLite Engine = iota + 1
	Postgres
	MySQL
)

// Execer is *sql.Tx, *sql.DB or *sql.Conn, or what embeds one of them.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// PgxExecer is pgx.Tx, *pgx.Conn or *pgxpool.Pool; Tag is pgx's CommandTag,
// which the compiler infers.
type PgxExecer[Tag any] interface {
	Exec(ctx context.Context, query string, args ...any) (Tag, error)
}

// InsertOption changes how an event is inserted.
type InsertOption func(*insertion)

// Table names the table of events where that is not evt_queue: letters, digits
// and _, with a schema and a dot before it if need be.
func Table(name string) InsertOption {
	return func(i *insertion) { i.table = name }
}

// AddEvent inserts an event in the caller's own transaction: it is delivered
// once that commits, and never when it rolls back. It begins and commits
// nothing itself; with an *sql.DB the event is a transaction of its own.
//
// data is as in [NewEvent]. An invalid argument is an [*Error] before anything
// is sent; any other error is the driver's.
func (e Engine) AddEvent(ctx context.Context, db Execer, eventType string, data any, options ...InsertOption) error {
	statement, text, err := e.insertion(eventType, data, options)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, statement, eventType, text)
	return err
}

// AddEventPgx is Postgres.AddEvent for pgx's own interface.
func AddEventPgx[Tag any](
	ctx context.Context, db PgxExecer[Tag], eventType string, data any, options ...InsertOption,
) error {
	statement, text, err := Postgres.insertion(eventType, data, options)
	if err != nil {
		return err
	}
	_, err = db.Exec(ctx, statement, eventType, text)
	return err
}

type insertion struct{ table string }

var tableName = regexp.MustCompile(`^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?$`)

// insertion returns the statement and the data as text. The id is the
// database's to give, and ts its clock in UTC.
func (e Engine) insertion(eventType string, data any, options []InsertOption) (statement, text string, err error) {
	into := insertion{table: "evt_queue"}
	for _, option := range options {
		option(&into)
	}
	if !tableName.MatchString(into.table) {
		return "", "", invalid("table", "must be letters, digits and _, with at most one dot between them")
	}
	text, err = NewEvent{Type: eventType, Data: data}.text()
	if err != nil {
		return "", "", err
	}
	values, err := e.values()
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("INSERT INTO %s (type, data, ts) VALUES (%s)", into.table, values), text, nil
}

func (e Engine) values() (string, error) {
	switch e {
	case SQLite:
		return "?, ?, CURRENT_TIMESTAMP", nil
	case Postgres:
		return "$1, $2, CURRENT_TIMESTAMP AT TIME ZONE 'UTC'", nil
	case MySQL:
		return "?, ?, UTC_TIMESTAMP()", nil
	default:
		return "", invalid("engine", "must be SQLite, Postgres or MySQL")
	}
}
