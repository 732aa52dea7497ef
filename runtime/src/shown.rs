//! What of a text out of a file may be shown at a terminal.

/// Whether `c` changes how a terminal shows what stands around it: controls, and marks of the writing direction.
pub fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` on one line: whatever would change how a terminal shows it stands as a question mark.
pub fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if is_unprintable(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_on_their_line() {
        assert_eq!(on_one_line("a\nb\u{1b}[2J\u{202e}c"), "a?b?[2J?c");
        assert_eq!(on_one_line("größe 2B"), "größe 2B");
    }
}
