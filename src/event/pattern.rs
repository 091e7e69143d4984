//! Names with stars: `ORDER_*` for types and components in rights, `*:TMP_*` for
//! consumers in rules of expiry.
//!
//! Letter case counts, a pattern describes the whole name, and there is nothing
//! but stars: no classes and no escapes, because no name has a star. Matching
//! takes at most the product of both lengths, whatever somebody has written.

/// Describes names: `*` stands for any text, everything else for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// A pattern; any text is one.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a name that it describes.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        matches(&self.0, name)
    }

    /// Whether it describes every name.
    #[must_use]
    pub fn is_any(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|byte| byte == b'*')
    }

    /// The one name that it describes, if it has no star.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(&*self.0)
    }
}

/// Greedy with one step back: a star that took too little takes more, and only
/// the last star ever has to, so that no pattern takes long.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(byte) if *byte == name[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else {
                    return false;
                };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                read = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_are_any_text() {
        for (pattern, text) in [
            ("a:B", "a:B"),
            ("a:*", "a:B"),
            ("*", "a:B"),
            ("*", ""),
            ("*:B", "a:B"),
            ("*:TMP_*", "web:TMP_7"),
            ("**:B*", "é:B"),
            ("*ab*ab", "abxabab"),
        ] {
            assert!(Pattern::new(pattern).matches(text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a:B", "a:b"),
            ("a:*", "b:a:B"),
            ("*:TMP_*", "web:TEMP"),
            ("", "a:B"),
            ("a:*B", "a:C"),
            ("*ab*ab", "abxaba"),
        ] {
            assert!(!Pattern::new(pattern).matches(text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = Pattern::new(&"*a".repeat(200));
        assert!(!pattern.matches(&"a".repeat(199)));
        assert!(pattern.matches(&"a".repeat(200)));
    }

    #[test]
    fn names_and_everything_are_told_apart() {
        assert!(Pattern::new("**").is_any() && !Pattern::new("").is_any());
        assert_eq!(Pattern::new("A").literal(), Some("A"));
        assert_eq!(Pattern::new("A*").literal(), None);
    }
}
