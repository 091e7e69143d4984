package org.futoin.eventstream;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.util.Arrays;
import java.util.Locale;

/** A receiver that writes down which events it handled, see recorder.sh. */
final class Recorder implements EventHandler {
    private final PrintStream out;
    private final long enough;
    private volatile ReliableReceiver receiver;
    private long count;
    private long first;
    private long last;

    private Recorder(PrintStream out, long enough) {
        this.out = out;
        this.enough = enough;
    }

    /** Arguments: ADDRESS COMPONENT [--count N] [--quiet]. */
    public static void main(String[] args) throws Exception {
        var options = Arrays.asList(args);
        int count = options.indexOf("--count");
        var out = new PrintStream(new FileOutputStream(FileDescriptor.out));
        var recorder = new Recorder(
                options.contains("--quiet") ? null : out, count < 0 ? Long.MAX_VALUE : Long.parseLong(args[count + 1]));
        try (var stream = EventStream.connect(args[0])) {
            recorder.run(stream.receiver(args[1]));
        }
        System.err.printf(Locale.ROOT, "{\"events\": %d, \"seconds\": %.3f}%n", recorder.count, recorder.seconds());
    }

    private void run(ReliableReceiver.Builder builder) throws InterruptedException {
        synchronized (this) { // The first event may stop the receiver: it must be known by then.
            receiver = builder.handle(this);
        }
        var input = new Thread(this::stopAtTheEndOfInput);
        input.setDaemon(true);
        input.start();
        receiver.await();
    }

    private void stopAtTheEndOfInput() {
        try {
            System.in.transferTo(java.io.OutputStream.nullOutputStream());
        } catch (IOException e) {
            System.err.println(e);
        }
        receiver.stop();
    }

    @Override
    public void handle(Event event) {
        last = System.nanoTime();
        if (count++ == 0) {
            first = last;
        }
        if (out != null) {
            out.print(event.id() + "\n");
            out.flush();
        }
        if (count == enough) {
            stop();
        }
    }

    private synchronized void stop() {
        receiver.stop();
    }

    private double seconds() {
        return (last - first) / 1e9;
    }
}
