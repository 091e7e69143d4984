package org.futoin.eventstream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.math.BigInteger;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class DataTest {
    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                " ",
                "{",
                "[1,]",
                "{\"a\" 1}",
                "01",
                "NaN",
                "1 2",
                "'a'",
                "\"\u0001\"",
                "\"\\x\"",
                "tru",
                "// 1"
            })
    void whatIsNoJsonIsRefused(String text) {
        assertEquals(
                "data",
                assertThrows(InvalidEventException.class, () -> NewEvent.ofJson("T", text))
                        .field());
    }

    @ParameterizedTest
    @ValueSource(strings = {"null", " 1 ", "-0.10e+5", "\"\\ud83d\\ude00\"", "[[],{}]", "{\"a\":1,\"a\":2}"})
    void jsonIsKeptToTheLetter(String text) {
        assertEquals(text, NewEvent.ofJson("T", text).dataJson());
    }

    @Test
    void depthAndDigitsHaveNoLimit() {
        var deep = "[".repeat(100_000) + "]".repeat(100_000);
        assertEquals(deep, NewEvent.ofJson("T", deep).dataJson());
        var digits = "9".repeat(50_000);
        assertEquals(new BigInteger(digits), event(digits).data().bigIntegerValue());
    }

    @Test
    void theLimitIsInBytesOfUtf8() {
        int most = (8 << 20) - 2;
        assertEquals(most + 2, NewEvent.of("T", "x".repeat(most)).dataJson().length());
        assertThrows(InvalidEventException.class, () -> NewEvent.of("T", "x".repeat(most + 1)));
        assertThrows(InvalidEventException.class, () -> NewEvent.of("T", "é".repeat(most / 2 + 1)));
        assertThrows(InvalidEventException.class, () -> NewEvent.of("T", "😀".repeat(most / 4 + 1)));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "a", "A-B", "ABCDEFGHIJKLMNOPQ", "A\n"})
    void aTypeHasARule(String type) {
        assertEquals(
                "type",
                assertThrows(InvalidEventException.class, () -> NewEvent.of(type, 1))
                        .field());
    }

    @Test
    void aBatchHasAnEndAndASize() {
        try (var stream = EventStream.connect("127.0.0.1:1")) {
            var large = NewEvent.of("T", "x".repeat(6 << 20));
            assertThrows(InvalidEventException.class, () -> stream.addEvents(List.of()));
            assertThrows(InvalidEventException.class, () -> stream.addEvents(List.of(large, large, large)));
        }
    }

    @Test
    void dataThatDoesNotFitNamesTheEvent() {
        var error = assertThrows(EventStreamException.class, () -> event("[1]").data(String.class));
        assertEquals("data of event 7 is no String", error.getMessage());
    }

    private static Event event(String data) {
        return new Event(7, "T", data, Optional.empty());
    }
}
