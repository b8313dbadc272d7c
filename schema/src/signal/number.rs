//! Numbers as shown to users.

/// A number as shown to users.
pub fn show(number: f64) -> String {
    if number != 0.0 && !(1e-4..1e15).contains(&number.abs()) {
        return format!("{number:e}");
    }
    // Six significant digits, without trailing zeros.
    #[expect(clippy::cast_possible_truncation, reason = "between 1e-4 and 1e15")]
    let whole_digits = if number == 0.0 {
        1
    } else {
        number.abs().log10().floor() as i32 + 1
    };
    let decimals = usize::try_from((6 - whole_digits).clamp(0, 9)).unwrap_or(0);
    let text = format!("{number:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A quantity as shown to users: at most five significant digits, with commas between thousands.
pub fn quantity(number: f64) -> String {
    if number == 0.0 || !(1e-4..1e15).contains(&number.abs()) {
        return show(number);
    }
    let digits = 4.0 - number.abs().log10().floor();
    let unit = 10_f64.powf(digits.max(0.0));
    let text = show((number * unit).round() / unit);
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (i, c) in whole.chars().enumerate() {
        let left = whole.len() - i;
        if i > 0 && left.is_multiple_of(3) && grouped != "-" {
            grouped.push(',');
        }
        grouped.push(c);
    }
    if !fraction.is_empty() {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_plainly() {
        for (number, shown) in [
            (0.0, "0"),
            (20.0, "20"),
            (4704.55615234375, "4704.56"),
            (0.45, "0.45"),
            (-88.369_566, "-88.3696"),
            (1e20, "1e20"),
            (0.000_01, "1e-5"),
            (1_234_567.0, "1234567"),
        ] {
            assert_eq!(show(number), shown);
        }
        for (number, shown) in [
            (60_000.0, "60,000"),
            (-1_234_567.8, "-1,234,568"),
            (999.0, "999"),
            (12.345_678, "12.346"),
            (0.0, "0"),
        ] {
            assert_eq!(quantity(number), shown);
        }
    }
}
