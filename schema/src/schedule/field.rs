//! The fields of an expression: their names, bounds and values.

/// A field: what its values may be.
#[derive(Debug)]
pub struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    /// Names of the values from `low` on, in lowercase.
    names: &'static [&'static str],
}

/// An error that shows the field and what was written there.
pub fn refuse<T>(field: &str, text: &str, problem: &str) -> Result<T, String> {
    Err(format!("{field} `{text}`: {problem}"))
}

impl Field {
    pub const fn new(
        name: &'static str,
        low: u32,
        high: u32,
        names: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            low,
            high,
            names,
        }
    }

    /// A cron field as bits: `*`, values, ranges `a-b` and steps, in a list.
    pub fn cron_set(&self, text: &str) -> Result<u64, String> {
        let mut set = 0;
        for item in text.split(',') {
            let (range, step) = match item.split_once('/') {
                Some((range, step)) => (range, Some(self.step(step, item)?)),
                None => (item, None),
            };
            let (first, last) = if range == "*" {
                (self.low, self.high)
            } else if let Some((first, last)) = range.split_once('-') {
                let bounds = (self.value(first, item)?, self.value(last, item)?);
                if bounds.0 > bounds.1 {
                    return refuse(self.name, item, "the range ends before it starts");
                }
                bounds
            } else {
                let value = self.value(range, item)?;
                (value, value)
            };
            // `5/15` means from 5 on. So does `5-5/15`: Debian's cron reads only 5, cronsim reads both alike.
            let last = if step.is_some() && first == last {
                self.high
            } else {
                last
            };
            for value in (first..=last).step_by(step.unwrap_or(1)) {
                set |= 1 << value;
            }
        }
        Ok(set)
    }

    /// A number or a name, within the bounds.
    pub fn value(&self, text: &str, item: &str) -> Result<u32, String> {
        match self.names.iter().position(|name| *name == text) {
            Some(index) => Ok(self.low + u32::try_from(index).unwrap_or(0)),
            None => self.number(text, item),
        }
    }

    /// A number within the bounds.
    pub fn number(&self, text: &str, item: &str) -> Result<u32, String> {
        match digits(text) {
            Some(value) if (self.low..=self.high).contains(&value) => Ok(value),
            _ => refuse(
                self.name,
                item,
                &format!("must be between {} and {}", self.low, self.high),
            ),
        }
    }

    /// The step after a `/`.
    pub fn step(&self, text: &str, item: &str) -> Result<usize, String> {
        match digits(text).and_then(|step| usize::try_from(step).ok()) {
            Some(step @ 1..) => Ok(step),
            _ => refuse(
                self.name,
                item,
                "the step after / must be a number from 1 on",
            ),
        }
    }
}

/// A number of digits only; one too large for its type counts as the largest.
pub fn digits(text: &str) -> Option<u32> {
    let valid = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| text.parse().unwrap_or(u32::MAX))
}
