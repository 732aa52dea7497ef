//! What of a text out of a file may be shown at a terminal.

/// Whether `c` changes how a terminal shows what stands around it: controls, and marks of the writing direction.
pub fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
