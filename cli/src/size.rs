//! Sizes on the command line.

/// Parses `600MB`, `1.5GiB` or a number of bytes.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "kib" => 1 << 10,
        "m" | "mb" => 1_000_000,
        "mib" => 1 << 20,
        "g" | "gb" => 1_000_000_000,
        "gib" => 1 << 30,
        _ => return Err("expected a size such as 600MB or 1.5GiB".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "expected a size such as 600MB or 1.5GiB".to_owned())?;
    let bytes = number * scale as f64;
    if bytes < 1.0 || bytes > u64::MAX as f64 / 2.0 {
        return Err("expected a size of at least a byte and less than 2^63, such as 600MB".to_owned());
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_are_decimal_or_binary() {
        assert_eq!(parse("600MB"), Ok(600_000_000));
        assert_eq!(parse("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse("17"), Ok(17));
        for wrong in ["", "MB", "-1MB", "1.2.3MB", "5 parsecs", "0", "1e9", "99999999999999999999GB"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
