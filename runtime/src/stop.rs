//! Stop strings: text that ends generation and is never shown.
//!
//! In: pieces of text as they arrive. Out: what may be shown. It upholds that no character of a stop string, once the
//! string is complete, has been given out: text that may be the start of one is held back until it is clear.

use crate::error::{Error, Result};

/// Watches a stream of text for the first stop string.
#[derive(Clone, Debug)]
pub struct StopWatch<'a> {
    stops: &'a [String],
    held: String,
}

impl<'a> StopWatch<'a> {
    /// Watches for any of `stops`; for none, everything passes at once.
    ///
    /// # Errors
    /// `EmptyStopString`.
    pub fn new(stops: &'a [String]) -> Result<Self> {
        match stops.iter().position(String::is_empty) {
            Some(index) => Err(Error::EmptyStopString { index }),
            None => Ok(Self { stops, held: String::new() }),
        }
    }

    /// Takes the next piece; what may be shown now, and whether a stop string has come (nothing after it counts).
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self.stops.iter().map(|stop| longest_start(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What is still held back: no stop string came of it.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes of the longest end of `text` that is a start of `stop`.
fn longest_start(text: &str, stop: &str) -> usize {
    let most = stop.len().min(text.len());
    (1..=most).rev().find(|n| stop.is_char_boundary(*n) && text.ends_with(&stop[..*n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes `pieces`; the pieces shown, and whether a stop string came.
    fn watch(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let mut watch = StopWatch::new(&stops).expect("good stop strings");
        let mut shown = Vec::new();
        for piece in pieces {
            let (text, stopped) = watch.push(piece);
            shown.push(text);
            if stopped {
                return (shown, true);
            }
        }
        shown.push(watch.finish());
        (shown, false)
    }

    #[test]
    fn text_passes_unless_it_may_be_a_stop_string() {
        assert_eq!(watch(&[], &["a", "b"]), (vec!["a".into(), "b".into(), "".into()], false));
        assert_eq!(watch(&["END"], &["aE", "N", "x"]), (vec!["a".into(), "".into(), "ENx".into(), "".into()], false));
        assert_eq!(watch(&["END"], &["aE", "ND b"]), (vec!["a".into(), "".into()], true));
        assert_eq!(watch(&["END"], &["aEN"]), (vec!["a".into(), "EN".into()], false));
    }

    #[test]
    fn a_false_start_may_hide_the_true_one() {
        assert_eq!(watch(&["aab"], &["a", "a", "a", "b"]), (vec!["".into(), "".into(), "a".into(), "".into()], true));
    }

    #[test]
    fn the_first_of_several_wins() {
        assert_eq!(watch(&["yz", "x"], &["axyz"]), (vec!["a".into()], true));
        assert_eq!(watch(&["é!"], &["caf", "é", "."]), (vec!["caf".into(), "".into(), "é.".into(), "".into()], false));
    }

    #[test]
    fn empty_stop_strings_are_refused() {
        let e = StopWatch::new(&["a".into(), String::new()]).expect_err("an empty string");
        assert!(matches!(e, Error::EmptyStopString { index: 1 }), "{e}");
    }
}
