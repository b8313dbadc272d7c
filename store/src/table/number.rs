//! DynamoDB's numbers: exact decimals with up to 38 significant digits.

use std::cmp::Ordering;
use std::fmt;

/// Maximum number of significant digits.
const DIGITS: u32 = 38;
/// Maximum distance of an exponent from zero.
const MAX_EXPONENT: i32 = 130;

/// A decimal number: `digits × 10^exponent`, without trailing zeros in its digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    digits: i128,
    exponent: i32,
}

impl Number {
    /// Parses a number in DynamoDB's format; `None` if it is not a number or has too many digits.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(whole) = text.parse::<i64>() {
            return Self::new(whole.into(), 0);
        }
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse().ok()?),
            None => (text, 0_i32),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let fraction = fraction.trim_end_matches('0');
        if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Self::new(
            digits,
            exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?,
        )
    }

    /// The sum, if it is exact.
    pub fn plus(self, other: Self) -> Option<Self> {
        let exponent = self.exponent.min(other.exponent);
        let digits = self.at(exponent)?.checked_add(other.at(exponent)?)?;
        Self::new(digits, exponent)
    }

    fn new(mut digits: i128, mut exponent: i32) -> Option<Self> {
        if digits == 0 {
            return Some(Self {
                digits: 0,
                exponent: 0,
            });
        }
        while digits % 10 == 0 {
            digits /= 10;
            exponent += 1;
        }
        let fits = digits.unsigned_abs() < 10_u128.pow(DIGITS) && exponent.abs() <= MAX_EXPONENT;
        fits.then_some(Self { digits, exponent })
    }

    /// The digits, scaled to a smaller exponent.
    fn at(self, exponent: i32) -> Option<i128> {
        let shift = u32::try_from(self.exponent.checked_sub(exponent)?).ok()?;
        self.digits.checked_mul(10_i128.checked_pow(shift)?)
    }

    /// The power of ten of its first digit.
    fn magnitude(self) -> i32 {
        let length = self.digits.unsigned_abs().checked_ilog10().unwrap_or(0);
        self.exponent + i32::try_from(length).unwrap_or(0)
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.digits.signum().cmp(&other.digits.signum());
        if signs.is_ne() || self.digits == 0 {
            return signs;
        }
        let size = match self.magnitude().cmp(&other.magnitude()) {
            // The same length, so both fit at a common exponent.
            Ordering::Equal => {
                let exponent = self.exponent.min(other.exponent);
                return self.at(exponent).cmp(&other.at(exponent));
            }
            unequal => unequal,
        };
        if self.digits < 0 {
            size.reverse()
        } else {
            size
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.digits < 0 { "-" } else { "" };
        let digits = self.digits.unsigned_abs().to_string();
        let Ok(scale) = usize::try_from(-self.exponent) else {
            let zeros = usize::try_from(self.exponent).unwrap_or(0);
            return write!(f, "{sign}{digits}{}", "0".repeat(zeros));
        };
        if scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn numbers_are_formatted_like_dynamodb() {
        for (text, written) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("-12.5E-2", "-0.125"),
            ("0.000001", "0.000001"),
            ("100", "100"),
            (
                "99999999999999999999999999999999999999",
                "99999999999999999999999999999999999999",
            ),
        ] {
            assert_eq!(number(text).to_string(), written);
        }
        for wrong in [
            "",
            "x",
            "1.x",
            "1e",
            "1.2.3",
            "999999999999999999999999999999999999999",
        ] {
            assert_eq!(Number::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_compare_and_add_numerically() {
        let ascending = [
            "-1e50", "-10", "-9.5", "-0.1", "0", "0.09", "0.1", "9", "10", "10.5", "1e50",
        ];
        for pair in ascending.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
            assert!(number(pair[1]) > number(pair[0]), "{pair:?}");
        }
        assert_eq!(number("10"), number("1e1"));
        let sum = |a, b| number(a).plus(number(b)).map(|sum| sum.to_string());
        assert_eq!(sum("0.1", "0.2").unwrap(), "0.3");
        assert_eq!(sum("5", "-5").unwrap(), "0");
        assert_eq!(sum("1763700000000", "60000").unwrap(), "1763700060000");
        assert_eq!(sum("1e100", "1"), None, "39 digits and more");
    }
}
