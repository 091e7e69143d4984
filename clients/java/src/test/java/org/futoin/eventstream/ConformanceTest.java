package org.futoin.eventstream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.Writer;
import java.lang.ProcessBuilder.Redirect;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** Every case of clients/conformance: the program plays the service and judges, this starts the receivers it names. */
@Execution(ExecutionMode.CONCURRENT)
class ConformanceTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    @TestFactory
    Stream<DynamicTest> everyCase() throws Exception {
        var list = new ProcessBuilder(Services.variable("TEST_SCRIPTED"), "--list").start();
        List<String> names;
        try (var lines = new BufferedReader(new InputStreamReader(list.getInputStream(), StandardCharsets.UTF_8))) {
            names = lines.lines().toList();
        }
        assertEquals(0, list.waitFor());
        assertFalse(names.isEmpty());
        return names.stream().map(name -> DynamicTest.dynamicTest(name, () -> play(name)));
    }

    private static void play(String name) throws Exception {
        var verdict = Files.createTempFile("verdict", ".txt");
        var script = new ProcessBuilder(Services.variable("TEST_SCRIPTED"), "--case", name)
                .redirectError(Redirect.to(verdict.toFile()))
                .start();
        try {
            converse(script);
            var ended = script.waitFor(Services.PATIENCE.toSeconds(), TimeUnit.SECONDS);
            assertEquals(0, ended ? script.exitValue() : -1, () -> read(verdict));
        } finally {
            script.destroyForcibly().waitFor();
            Files.delete(verdict);
        }
    }

    private static String read(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException e) {
            return e.toString();
        }
    }

    private static void converse(Process script) throws Exception {
        try (var lines = script.inputReader(StandardCharsets.UTF_8)) {
            var first = lines.readLine();
            if (first == null) {
                return; // Its exit code and its text say why.
            }
            var setting = JSON.readTree(first);
            try (var stream = EventStream.connect(
                            "http://" + setting.get("address").textValue());
                    var reports = script.outputWriter(StandardCharsets.UTF_8)) {
                converse(stream, setting.get("receivers"), lines, reports);
            }
        }
    }

    private static void converse(EventStream stream, JsonNode settings, BufferedReader lines, Writer reports) {
        Map<String, ScriptedReceiver> receivers = new HashMap<>();
        for (var setting : settings) {
            var receiver = new ScriptedReceiver(stream, setting, reports);
            receivers.put(receiver.name(), receiver);
            if (!setting.path("wait").asBoolean()) {
                receiver.start();
            }
        }
        var listener = new Thread(() -> {
            lines.lines().forEach(line -> tell(receivers, line));
            receivers.values().forEach(ScriptedReceiver::giveUp);
        });
        listener.start();
        receivers.values().forEach(ScriptedReceiver::awaitEnd);
    }

    private static void tell(Map<String, ScriptedReceiver> receivers, String line) {
        try {
            JsonNode told = JSON.readTree(line);
            receivers
                    .get(told.get("receiver").textValue())
                    .tell(told.get("tell").textValue());
        } catch (IOException e) {
            throw new IllegalStateException(line, e);
        }
    }
}
