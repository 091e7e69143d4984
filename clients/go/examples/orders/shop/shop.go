// Package shop is what both programs know: the event, and how to open the
// database.
package shop

import (
	"database/sql"
	"fmt"
	"net/url"
	"strings"

	eventstream "github.com/futoin/eventstream-rs/clients/go"
	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // PostgreSQL
	_ "github.com/mattn/go-sqlite3"    // SQLite
)

// OrderNew is the type of the event whose data is an Order.
const OrderNew = "ORDER_NEW"

// Order is a row and an event.
type Order struct {
	Number int64  `json:"number"`
	Item   string `json:"item"`
}

// Open opens sqlite:PATH, postgres://… or mysql://….
func Open(address string) (*sql.DB, eventstream.Engine, error) {
	scheme, rest, _ := strings.Cut(address, ":")
	switch scheme {
	case "sqlite":
		db, err := sql.Open("sqlite3", "file:"+rest+"?_busy_timeout=5000&_txlock=immediate")
		return db, eventstream.SQLite, err
	case "postgres", "postgresql":
		db, err := sql.Open("pgx", address)
		return db, eventstream.Postgres, err
	case "mysql":
		source, err := mysqlSource(address)
		if err != nil {
			return nil, 0, err
		}
		db, err := sql.Open("mysql", source)
		return db, eventstream.MySQL, err
	default:
		return nil, 0, fmt.Errorf("%s: must be sqlite:PATH, postgres://… or mysql://…", address)
	}
}

// mysqlSource is the address as the driver wants it.
func mysqlSource(address string) (string, error) {
	from, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", from.Host
	config.User = from.User.Username()
	config.Passwd, _ = from.User.Password()
	config.DBName = strings.TrimPrefix(from.Path, "/")
	return config.FormatDSN(), nil
}
