//! Assembly of a wide kernel, for people.

use std::fmt::Write;

use iced_x86::{Decoder, DecoderOptions, FastFormatter};

use super::asm::Code;

/// One instruction a line, under its offset; the constants as a count.
pub fn listing(code: &Code) -> String {
    let mut formatter = FastFormatter::new();
    let mut text = String::new();
    let instructions = code.bytes.get(..code.code_bytes).unwrap_or_default();
    for instruction in &mut Decoder::with_ip(64, instructions, 0, DecoderOptions::NONE) {
        // Writing to a string does not fail.
        let _ = write!(text, "  {:5x}: ", instruction.ip());
        formatter.format(&instruction, &mut text);
        text.push('\n');
    }
    let rest = code.bytes.len() - code.code_bytes;
    let _ = writeln!(text, "  {:5x}: {rest} bytes of padding and constants", code.code_bytes);
    text
}
