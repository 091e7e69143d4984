package org.futoin.eventstream;

/** Something that can never be stored or asked for; found before anything was sent or inserted. */
public final class InvalidEventException extends IllegalArgumentException {
    private static final long serialVersionUID = 1;

    /** Which part is wrong. */
    private final String field;

    /** The rule that it breaks. */
    private final String rule;

    InvalidEventException(String field, String rule, Throwable cause) {
        super(field + ": " + rule, cause);
        this.field = field;
        this.rule = rule;
    }

    InvalidEventException(String field, String rule) {
        this(field, rule, null);
    }

    /**
     * Which part is wrong.
     *
     * @return {@code type}, {@code data}, {@code events} or {@code table}
     */
    public String field() {
        return field;
    }

    /**
     * The rule that it breaks.
     *
     * @return text for a person
     */
    public String rule() {
        return rule;
    }
}
