// Billing reacts to each order once it is committed, until it is interrupted:
//
//	billing ADDRESS
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	eventstream "github.com/futoin/eventstream-rs/clients/go"
	"github.com/futoin/eventstream-rs/clients/go/examples/orders/shop"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: billing ADDRESS")
	}
	client, err := eventstream.Dial(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	receiver := client.Receive("BILLING", eventstream.ReceiverOptions{
		Want:      []string{shop.OrderNew},
		OnFailure: eventstream.DeadLetter(5, giveUp),
	})

	// ctrl-c: finish the order in work, acknowledge it, and end.
	interrupted, ignore := signal.NotifyContext(context.Background(), os.Interrupt)
	defer ignore()
	context.AfterFunc(interrupted, receiver.Stop)

	if err := receiver.Run(context.Background(), bill); err != nil {
		log.Fatal(err)
	}
	fmt.Println("closed")
}

// bill may see an order again after a crash: what it does for one it must be
// able to do twice.
func bill(_ context.Context, event eventstream.Event) error {
	var order shop.Order
	if err := event.Decode(&order); err != nil {
		return err
	}
	fmt.Printf("invoice for order %d: %s\n", order.Number, order.Item)
	return nil
}

func giveUp(_ context.Context, event eventstream.Event, err error) error {
	log.Printf("event %d, %s: %v", event.ID, event.DataJSON, err)
	return nil
}
