// Order inserts an order with its event in one transaction:
//
//	order DATABASE NUMBER ITEM
package main

import (
	"context"
	"log"
	"os"
	"strconv"

	eventstream "github.com/futoin/eventstream-rs/clients/go"
	"github.com/futoin/eventstream-rs/clients/go/examples/orders/shop"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: order DATABASE NUMBER ITEM")
	}
	number, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	if err := insert(context.Background(), os.Args[1], shop.Order{Number: number, Item: os.Args[3]}); err != nil {
		log.Fatal(err)
	}
}

func insert(ctx context.Context, database string, order shop.Order) error {
	db, engine, err := shop.Open(database)
	if err != nil {
		return err
	}
	defer db.Close()
	const table = "CREATE TABLE IF NOT EXISTS orders (number BIGINT PRIMARY KEY, item VARCHAR(100))"
	if _, err := db.ExecContext(ctx, table); err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, insertOrder(engine), order.Number, order.Item); err != nil {
		return err
	}
	if err := engine.AddEvent(ctx, tx, shop.OrderNew, order); err != nil {
		return err
	}
	return tx.Commit()
}

func insertOrder(engine eventstream.Engine) string {
	if engine == eventstream.Postgres {
		return "INSERT INTO orders (number, item) VALUES ($1, $2)"
	}
	return "INSERT INTO orders (number, item) VALUES (?, ?)"
}
