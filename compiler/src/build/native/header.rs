//! The C header and the Rust bindings of one model.
//!
//! In: its prefix, and whether it carries its weights. Out: text. All but these two comes from `ir-specs/abi.toml`, by way
//! of templates that its generator writes.

use super::Prefix;

/// Stands for the prefix.
const PREFIX: &str = "__PREFIX__";
/// Stands for whether the model carries its weights.
const HAS_WEIGHTS: &str = "__HAS_WEIGHTS__";

/// The C header: `PREFIX.h`.
pub fn c_header(prefix: &Prefix, has_weights: bool) -> String {
    let flag = if has_weights { "1" } else { "0" };
    include_str!("../../generated/header.h.in").replace(HAS_WEIGHTS, flag).replace(PREFIX, prefix.as_str())
}

/// A Rust module over the same symbols: `PREFIX.rs`.
pub fn rust_bindings(prefix: &Prefix, has_weights: bool) -> String {
    let flag = if has_weights { "true" } else { "false" };
    include_str!("../../generated/bindings.rs.in").replace(HAS_WEIGHTS, flag).replace(PREFIX, prefix.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled() {
        let prefix = Prefix::new("demo").expect("a prefix");
        for has_weights in [false, true] {
            let texts = [c_header(&prefix, has_weights), rust_bindings(&prefix, has_weights)];
            for text in &texts {
                assert!(!text.contains(PREFIX) && !text.contains(HAS_WEIGHTS), "something is not filled in");
                assert!(["demo_step", "demo_info", "demo_weights"].iter().all(|symbol| text.contains(symbol)));
            }
            assert!(texts[0].contains(&format!("#define demo_HAS_WEIGHTS {}\n", u8::from(has_weights))));
            assert!(texts[1].contains(&format!("HAS_WEIGHTS: bool = {has_weights};")));
        }
    }
}
