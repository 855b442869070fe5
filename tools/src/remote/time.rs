//! Lengths of time as a person types them: `90`, `90s`, `15m`, `1h`, `14d`.

use std::time::Duration;

const UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("", 1000)];

/// Reads a length of time; a plain number counts seconds.
pub(super) fn length(text: &str) -> Result<Duration, String> {
    let wanted = "it has to be a time such as 90, 90s, 15m, 1h or 14d";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, size_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(wanted)?;
    let number: u64 = number.parse().map_err(|_| wanted)?;
    number.checked_mul(*size_ms).map(Duration::from_millis).ok_or_else(|| wanted.to_owned())
}

/// Reads a length of time of whole seconds, and of one at least.
pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    let length = length(text)?;
    if length.is_zero() || length.subsec_nanos() > 0 {
        return Err("it has to be one or more whole seconds, such as 90, 90s, 15m or 1h".to_owned());
    }
    Ok(length)
}

/// Reads a length of time of whole seconds, or none.
pub(super) fn grace(text: &str) -> Result<Duration, String> {
    if length(text)?.is_zero() { Ok(Duration::ZERO) } else { ttl(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, expected_s) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("1h", Some(3600)),
            ("14d", Some(1_209_600)),
            ("2000ms", Some(2)),
            ("0", None),
            ("1500ms", None),
            ("", None),
            ("h", None),
            ("1.5h", None),
            ("-1", None),
            ("1 h", None),
            ("1w", None),
            ("99999999999999999999", None),
            ("9999999999999999d", None),
        ] {
            assert_eq!(ttl(text).ok(), expected_s.map(Duration::from_secs), "{text}");
        }
        assert_eq!(length("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(grace("0"), Ok(Duration::ZERO));
        assert!(grace("10ms").is_err());
    }
}
