// Package tests holds the tests that need what users of the client need not:
// database drivers and OpenTelemetry's SDK.
package tests

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	eventstream "github.com/futoin/eventstream-rs/clients/go"
	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/mattn/go-sqlite3"
)

// adder is AddEvent of one library, in what it is bound to.
type adder func(ctx context.Context, eventType string, data any, options ...eventstream.InsertOption) error

// transaction is one of the library under test.
type transaction struct {
	add  adder
	exec func(ctx context.Context, statement string) error
	end  func(ctx context.Context, commit bool) error
}

// library begins transactions on one engine.
type library struct {
	name    string
	address string // of the service, a variable's name
	begin   func(t *testing.T, ctx context.Context) transaction
}

func libraries() []library {
	return []library{
		{"sqlite_sql_Tx", "TEST_SQLITE", sqlTx("sqlite3", sqliteDSN, eventstream.SQLite)},
		{"sqlite_sql_Conn", "TEST_SQLITE", sqlConn("sqlite3", sqliteDSN, eventstream.SQLite)},
		{"postgres_sql_Tx", "TEST_POSTGRES", sqlTx("pgx", postgresURL, eventstream.Postgres)},
		{"mysql_sql_Tx", "TEST_MYSQL", sqlTx("mysql", mysqlDSN, eventstream.MySQL)},
		{"mysql_sql_Conn", "TEST_MYSQL", sqlConn("mysql", mysqlDSN, eventstream.MySQL)},
		{"pgx_Tx", "TEST_POSTGRES", pgxTx},
		{"pgx_Conn", "TEST_POSTGRES", pgxConn},
		{"pgxpool_Tx", "TEST_POSTGRES", pgxpoolTx},
	}
}

func TestAddEventInATransaction(t *testing.T) {
	for number, library := range libraries() {
		t.Run(library.name, func(t *testing.T) {
			table := fmt.Sprintf("go_orders_%d", number)
			kind := "GO_TX_" + strings.Repeat("X", number+1)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			client, component := consumer(t, ctx, library.address)

			makeTable(t, ctx, library, table)
			if err := inTransaction(t, ctx, library, table, kind, 1, false); err != nil {
				t.Fatal(err)
			}
			if err := inTransaction(t, ctx, library, table, kind, 2, true); err != nil {
				t.Fatal(err)
			}
			got := receive(t, ctx, client, component, kind)
			if got.Type != kind || got.DataJSON != exact(2) || time.Since(got.Time).Abs() > time.Hour {
				t.Fatalf("%+v", got)
			}
			for event, err := range client.Poll(ctx, component, eventstream.PollOptions{Want: []string{kind}}) {
				t.Errorf("one more: %+v, %v", event, err)
			}
		})
	}
}

func TestRefusedBeforeTheInsert(t *testing.T) {
	for _, library := range libraries() {
		t.Run(library.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			tx := library.begin(t, ctx)
			large := json.RawMessage(`"` + strings.Repeat("x", eventstream.MaxDataBytes) + `"`)
			refused(t, "type", tx.add(ctx, "order", 1))
			refused(t, "data_json", tx.add(ctx, "GO_REFUSED", large))
			refused(t, "data_json", tx.add(ctx, "GO_REFUSED", json.RawMessage("{")))
			refused(t, "table", tx.add(ctx, "GO_REFUSED", 1, eventstream.Table("evt_queue; --")))
			// PostgreSQL would refuse this after a statement that failed.
			if err := tx.add(ctx, "GO_REFUSED", 1, eventstream.Table("evt_queue")); err != nil {
				t.Error(err)
			}
			if err := tx.end(ctx, false); err != nil {
				t.Error(err)
			}
		})
	}
}

// What runs without a transaction of the caller commits by itself.
func TestAddEventWithoutATransaction(t *testing.T) {
	pool := open(t, pgxpool.New)
	db := openSQL(t, "sqlite3", sqliteDSN(t))
	for name, c := range map[string]struct {
		address string
		add     func(context.Context) error
	}{
		"sql_DB": {"TEST_SQLITE", func(ctx context.Context) error {
			return eventstream.SQLite.AddEvent(ctx, db, "GO_ALONE", value(1))
		}},
		"pgxpool_Pool": {"TEST_POSTGRES", func(ctx context.Context) error {
			return eventstream.AddEventPgx(ctx, pool, "GO_ALONE", value(1), eventstream.Table("public.evt_queue"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			client, component := consumer(t, ctx, c.address)
			if err := c.add(ctx); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, ctx, client, component, "GO_ALONE"); got.DataJSON != exact(1) {
				t.Fatalf("%+v", got)
			}
		})
	}
}

func TestUnknownEngine(t *testing.T) {
	db := openSQL(t, "sqlite3", sqliteDSN(t))
	refused(t, "engine", eventstream.Engine(0).AddEvent(t.Context(), db, "GO_REFUSED", 1))
}

func exact(order int) string {
	return fmt.Sprintf(`{"order":%d,"n":9007199254740993,"text":"\"🫖\" 'tea'"}`, order)
}

func value(order int) any {
	return struct {
		Order int    `json:"order"`
		N     int64  `json:"n"`
		Text  string `json:"text"`
	}{order, 9007199254740993, `"🫖" 'tea'`}
}

// inTransaction inserts an order and its event.
func inTransaction(t *testing.T, ctx context.Context, library library, table, kind string, order int, commit bool) error {
	tx := library.begin(t, ctx)
	err := tx.exec(ctx, fmt.Sprintf("INSERT INTO %s (id) VALUES (%d)", table, order))
	if err == nil {
		err = tx.add(ctx, kind, value(order))
	}
	return errors.Join(err, tx.end(ctx, commit && err == nil))
}

func makeTable(t *testing.T, ctx context.Context, library library, table string) {
	tx := library.begin(t, ctx)
	if err := tx.exec(ctx, "CREATE TABLE "+table+" (id BIGINT PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	if err := tx.end(ctx, true); err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, field string, err error) {
	t.Helper()
	var failure *eventstream.Error
	if !errors.As(err, &failure) || failure.Field != field || failure.Rule == "" {
		t.Errorf("%s: %v", field, err)
	}
}

// consumer registers a component of the test's own, from now on.
func consumer(t *testing.T, ctx context.Context, variable string) (*eventstream.Client, string) {
	client, err := eventstream.Dial("http://" + need(t, variable))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	component := fmt.Sprintf("G_%014x", time.Now().UnixNano()&0xffffffffffffff)
	if _, created, err := client.Register(ctx, component, eventstream.StartNow()); err != nil || !created {
		t.Fatalf("created: %t, %v", created, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := client.Unregister(ctx, component, ""); err != nil {
			t.Error(err)
		}
	})
	return client, component
}

// receive returns the first event of the type.
func receive(t *testing.T, ctx context.Context, client *eventstream.Client, component, kind string) (got eventstream.Event) {
	receiver := client.Receive(component, eventstream.ReceiverOptions{Want: []string{kind}})
	err := receiver.Run(ctx, func(_ context.Context, event eventstream.Event) error {
		got = event
		receiver.Stop()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func need(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run this through scripts/with-services.sh", name)
	}
	return value
}

func sqliteDSN(t *testing.T) string {
	return "file:" + need(t, "TEST_SQLITE_DB") + "?_busy_timeout=10000&_txlock=immediate"
}

func postgresURL(t *testing.T) string { return need(t, "TEST_POSTGRES_DB") }

func mysqlDSN(t *testing.T) string {
	from, err := url.Parse(need(t, "TEST_MYSQL_DB"))
	if err != nil {
		t.Fatal(err)
	}
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", from.Host
	config.User = from.User.Username()
	config.Passwd, _ = from.User.Password()
	config.DBName = strings.TrimPrefix(from.Path, "/")
	return config.FormatDSN()
}

func openSQL(t *testing.T, driver, dsn string) *sql.DB {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func sqlTx(driver string, dsn func(*testing.T) string, engine eventstream.Engine) func(*testing.T, context.Context) transaction {
	return func(t *testing.T, ctx context.Context) transaction {
		tx, err := openSQL(t, driver, dsn(t)).BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		return transaction{
			add: func(ctx context.Context, kind string, data any, options ...eventstream.InsertOption) error {
				return engine.AddEvent(ctx, tx, kind, data, options...)
			},
			exec: executed(tx),
			end: func(_ context.Context, commit bool) error {
				if commit {
					return tx.Commit()
				}
				return tx.Rollback()
			},
		}
	}
}

// sqlConn begins and ends by statements of its own.
func sqlConn(driver string, dsn func(*testing.T) string, engine eventstream.Engine) func(*testing.T, context.Context) transaction {
	return func(t *testing.T, ctx context.Context) transaction {
		conn, err := openSQL(t, driver, dsn(t)).Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		exec := executed(conn)
		if err := exec(ctx, "BEGIN"); err != nil {
			t.Fatal(err)
		}
		return transaction{
			add: func(ctx context.Context, kind string, data any, options ...eventstream.InsertOption) error {
				return engine.AddEvent(ctx, conn, kind, data, options...)
			},
			exec: exec,
			end: func(ctx context.Context, commit bool) error {
				return errors.Join(exec(ctx, ending(commit)), conn.Close())
			},
		}
	}
}

func executed(db eventstream.Execer) func(context.Context, string) error {
	return func(ctx context.Context, statement string) error {
		_, err := db.ExecContext(ctx, statement)
		return err
	}
}

func ending(commit bool) string {
	if commit {
		return "COMMIT"
	}
	return "ROLLBACK"
}

// open connects to PostgreSQL.
func open[DB any](t *testing.T, connect func(context.Context, string) (DB, error)) DB {
	db, err := connect(t.Context(), postgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		switch db := any(db).(type) {
		case *pgxpool.Pool:
			db.Close()
		case *pgx.Conn:
			if err := db.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	return db
}

func pgxTx(t *testing.T, ctx context.Context) transaction {
	return begunPgx(t, ctx, open(t, pgx.Connect))
}

func pgxpoolTx(t *testing.T, ctx context.Context) transaction {
	return begunPgx(t, ctx, open(t, pgxpool.New))
}

func begunPgx(t *testing.T, ctx context.Context, db interface {
	Begin(context.Context) (pgx.Tx, error)
},
) transaction {
	tx, err := db.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return transaction{
		add: func(ctx context.Context, kind string, data any, options ...eventstream.InsertOption) error {
			return eventstream.AddEventPgx(ctx, tx, kind, data, options...)
		},
		exec: func(ctx context.Context, statement string) error {
			_, err := tx.Exec(ctx, statement)
			return err
		},
		end: func(ctx context.Context, commit bool) error {
			if commit {
				return tx.Commit(ctx)
			}
			return tx.Rollback(ctx)
		},
	}
}

func pgxConn(t *testing.T, ctx context.Context) transaction {
	conn := open(t, pgx.Connect)
	exec := func(ctx context.Context, statement string) error {
		_, err := conn.Exec(ctx, statement)
		return err
	}
	if err := exec(ctx, "BEGIN"); err != nil {
		t.Fatal(err)
	}
	return transaction{
		add: func(ctx context.Context, kind string, data any, options ...eventstream.InsertOption) error {
			return eventstream.AddEventPgx(ctx, conn, kind, data, options...)
		},
		exec: exec,
		end:  func(ctx context.Context, commit bool) error { return exec(ctx, ending(commit)) },
	}
}
