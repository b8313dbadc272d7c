//! Times, durations and numbers in human-readable form.

use askama::filters::HtmlSafe;
use std::fmt;
use thrum_schema::UnixMs;
use thrum_schema::time::relative;
pub use thrum_schema::time::span;

/// A timestamp, shown in UTC until the page's script converts it to the viewer's time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At(pub UnixMs);

/// A timestamp, shown as the time since then or until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relative {
    /// The timestamp.
    pub at: UnixMs,
    /// The current time.
    pub now: UnixMs,
}

impl At {
    /// Plain text in UTC, without markup.
    pub fn plain(self) -> String {
        self.0.utc().format("%Y-%m-%d %H:%M:%S UTC").to_string()
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.0.utc();
        write!(
            f,
            "<time datetime=\"{}\">{} UTC</time>",
            at.format("%Y-%m-%dT%H:%M:%S%.3fZ"),
            at.format("%Y-%m-%d %H:%M:%S")
        )
    }
}

impl HtmlSafe for At {}

impl fmt::Display for Relative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.utc();
        write!(
            f,
            "<time class=\"ago\" datetime=\"{}\" title=\"{} UTC\">{}</time>",
            at.format("%Y-%m-%dT%H:%M:%S%.3fZ"),
            at.format("%Y-%m-%d %H:%M:%S"),
            relative(self.at - self.now)
        )
    }
}

impl HtmlSafe for Relative {}

/// Parses a timestamp in an API response.
pub fn at(text: &str) -> At {
    At(UnixMs::parse("timestamp", text).unwrap_or(UnixMs(0)))
}

/// A duration in milliseconds: `1.25 s`, `3 min 5 s`.
pub fn took(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..100_000 => {
            let hundredths = ms / 10;
            format!("{}.{:02} s", hundredths / 100, hundredths % 100)
        }
        _ => span(ms / 1000),
    }
}

/// A number with two to six decimals, depending on its size, and no trailing zeros: `101.23`,
/// `0.004512`.
pub fn number(x: f64) -> String {
    let digits = match x.abs() {
        1000.0.. => 2,
        1.0..1000.0 => 4,
        _ => 6,
    };
    let text = format!("{x:.digits$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}

/// A fraction as a percentage, rounded down so that only 1 is `100 %`: `99.98 %`.
pub fn percent(part: f64) -> String {
    let hundredths = (part * 10_000.0).floor() / 100.0;
    format!("{} %", number(hundredths))
}

#[cfg(test)]
mod tests {
    use super::*;
    use thrum_schema::time::parse_span;

    #[test]
    fn displayed_durations_parse_back() {
        for (text, s) in [
            ("90", 90),
            ("90 s", 90),
            ("5m", 300),
            ("1 h 30 min", 5_400),
            ("1d2h", 93_600),
            ("1 week", 604_800),
            ("1.5h", 5_400),
        ] {
            assert_eq!(parse_span(text), Some(s), "{text}");
        }
        for text in [
            "",
            "five",
            "5 parsecs",
            "-1",
            "1.5s",
            "99999999999999999999",
        ] {
            assert_eq!(parse_span(text), None, "{text}");
        }
        for s in [0, 1, 59, 60, 5_400, 86_400, 90_061] {
            assert_eq!(parse_span(&span(s)), u64::try_from(s).ok(), "{s}");
        }
    }

    #[test]
    fn times_and_numbers_are_formatted_for_people() {
        assert_eq!(relative(56_000), "in 56 s");
        assert_eq!(relative(-240_000), "4 min ago");
        assert_eq!(relative(-7_200_000), "2 h ago");
        assert_eq!(took(1_250), "1.25 s");
        assert_eq!(took(185_000), "3 min 5 s");
        assert_eq!(percent(0.999_999), "99.99 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(number(101.2300), "101.23");
    }
}
