import org.futoin.eventstream.EventStream;
import org.futoin.eventstream.ReliableReceiver;

/** Ships what was ordered: {@code Shipping ADDRESS}, until it is interrupted. */
public final class Shipping {
    /** What the event tells. */
    public record Order(String order, String item) {}

    private Shipping() {}

    /** The argument is the service's address. */
    public static void main(String[] args) throws InterruptedException {
        try (EventStream stream = EventStream.connect(args[0]);
                ReliableReceiver receiver = stream.receiver("JavaShipping")
                        .want("JAVA_ORDER")
                        .handle(event -> {
                            Order order = event.data(Order.class);
                            System.out.println("ship " + order.item());
                        })) {
            // On SIGTERM and ctrl-c: finish the event in the handler and acknowledge it.
            Runtime.getRuntime().addShutdownHook(new Thread(receiver::close));
            receiver.await();
        }
    }
}
