//! Recognises what the columns of a CSV file are.

use super::time;
use std::fmt;
use std::str::FromStr;

/// The layout of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What was recognised, for users.
    pub what: String,
    /// The separator.
    pub delimiter: u8,
    /// Whether the first row has the names of the columns.
    pub has_header: bool,
    /// The names of the columns, in lower case; none without a header.
    pub names: Vec<String>,
    /// Which column is what.
    pub columns: Places,
    /// How numbers are written.
    pub numbers: Numbers,
}

/// Which column is what, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// The time, or the date.
    pub time: usize,
    /// The time of day, if it has a column of its own.
    pub clock: Option<usize>,
    /// Open, high, low and close.
    pub prices: [usize; 4],
    /// The volume.
    pub volume: Option<usize>,
    /// The value, if these are plain values.
    pub value: Option<usize>,
}

/// How numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// `1234.5`
    Point,
    /// `1234,5`, also `1.234,5`
    Comma,
}

/// The columns as a user names them, such as `time=Date,value=2`: by name, or by position from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(Vec<(Role, String)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Time,
    Clock,
    Open,
    High,
    Low,
    Close,
    Volume,
    Value,
}

const ROLES: [(&str, Role); 8] = [
    ("time", Role::Time),
    ("clock", Role::Clock),
    ("open", Role::Open),
    ("high", Role::High),
    ("low", Role::Low),
    ("close", Role::Close),
    ("volume", Role::Volume),
    ("value", Role::Value),
];

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pairs = text.split(',').map(|pair| {
            let shape =
                "must be like time=Date,open=Open,high=High,low=Low,close=Close or time=1,value=2";
            let (role, column) = pair.split_once('=').ok_or(shape)?;
            let known = ROLES.iter().find(|(name, _)| *name == role.trim());
            let (_, role) = known.ok_or_else(|| {
                format!(
                    "{role:?} is not one of time, clock, open, high, low, close, volume and value"
                )
            })?;
            Ok((*role, column.trim().to_owned()))
        });
        pairs.collect::<Result<Vec<_>, String>>().map(Self)
    }
}

/// A layout, and what to skip before it.
#[derive(Debug)]
pub struct Recognised {
    pub layout: Layout,
    /// Bytes before the header, or the first row.
    pub skip: usize,
    /// Lines before it.
    pub skipped: u64,
}

/// Names of the time column, the best first.
const TIMES: [&str; 11] = [
    "time",
    "timestamp",
    "unix",
    "open_time",
    "open time",
    "datetime",
    "date",
    "unix timestamp",
    "gmt time",
    "local time",
    "day",
];
const VOLUMES: [&str; 5] = ["volume", "vol", "tick_volume", "tickvol", "base volume"];

/// Recognises the layout of a file that begins with `head`. The error continues a sentence that
/// begins with the file's name.
pub fn recognise(head: &[u8], given: Option<&Columns>) -> Result<Recognised, String> {
    let mut skip = if head.starts_with(&[0xef, 0xbb, 0xbf]) {
        3
    } else {
        0
    };
    let mut skipped = 0;
    let first_line = |from: usize| {
        let rest = &head[from..];
        let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        (String::from_utf8_lossy(&rest[..end]).trim().to_owned(), end)
    };
    let (mut line, end) = first_line(skip);
    // A line that names the source, as CryptoDataDownload has it.
    let is_note = line.starts_with("http") || line.starts_with('#');
    if is_note || line.is_empty() {
        skip = (skip + end + 1).min(head.len());
        skipped = 1;
        (line, _) = first_line(skip);
    }
    if line.is_empty() {
        return Err("has no rows".to_owned());
    }
    let delimiter = *[b';', b'\t', b',']
        .iter()
        .max_by_key(|delimiter| line.bytes().filter(|b| b == *delimiter).count())
        .unwrap_or(&b',');
    let fields: Vec<String> = line
        .split(char::from(delimiter))
        .map(|field| {
            let field = field.trim().trim_matches('"').trim();
            field
                .trim_start_matches('<')
                .trim_end_matches('>')
                .to_lowercase()
        })
        .collect();
    let is_row = |field: &String| time::parse(field, true).is_ok() || number_like(field);
    let has_header = !fields.first().is_some_and(is_row);
    let names = if has_header {
        fields.clone()
    } else {
        Vec::new()
    };
    let (columns, mut what) = match given {
        Some(given) => (
            given.places(&names, fields.len())?,
            "the given columns".to_owned(),
        ),
        None if has_header => by_name(&names)?,
        None => by_count(&fields)?,
    };
    let numbers = numbers(head, skip, delimiter, has_header, &columns);
    if delimiter == b';' {
        what.push_str(", separated by semicolons");
    }
    if numbers == Numbers::Comma {
        what.push_str(", with decimal commas");
    }
    Ok(Recognised {
        layout: Layout {
            what,
            delimiter,
            has_header,
            names,
            columns,
            numbers,
        },
        skip,
        skipped,
    })
}

fn number_like(field: &str) -> bool {
    !field.is_empty() && field.replace(',', ".").parse::<f64>().is_ok()
}

/// Whether a price in the first rows has a decimal comma; never if commas separate the columns.
fn numbers(head: &[u8], skip: usize, delimiter: u8, has_header: bool, columns: &Places) -> Numbers {
    if delimiter == b',' {
        return Numbers::Point;
    }
    let text = String::from_utf8_lossy(&head[skip..]);
    let mut rows = text.lines().skip(usize::from(has_header)).take(100);
    let has_comma = |row: &str| {
        let mut fields = row.split(char::from(delimiter)).enumerate();
        fields.any(|(i, field)| columns.prices.contains(&i) && field.contains(','))
    };
    if rows.any(has_comma) {
        Numbers::Comma
    } else {
        Numbers::Point
    }
}

fn by_name(names: &[String]) -> Result<(Places, String), String> {
    let at = |name: &str| names.iter().position(|known| known == name);
    let has = |name: &str| at(name).is_some();
    let any = |wanted: &[&str]| wanted.iter().find_map(|name| at(name));
    let listed = || names.join(",");
    let time = any(&TIMES).ok_or_else(|| {
        format!(
            "has no column \"time\" (its header is {}); say which one it is, as in --columns time=1,value=2",
            listed()
        )
    })?;
    // A date, and a time of day beside it.
    let (time, clock) = match (at("date"), at("time")) {
        (Some(date), Some(clock)) => (date, Some(clock)),
        _ => (time, None),
    };
    let prices = [at("open"), at("high"), at("low"), at("close")];
    let value = any(&["value", "price", "count"]);
    match (prices, value) {
        ([Some(open), Some(high), Some(low), Some(close)], _) => {
            let volume =
                any(&VOLUMES).or_else(|| names.iter().position(|name| name.starts_with("volume ")));
            let what = if has("adj close") {
                "Yahoo Finance (Adj Close is left out)"
            } else if has("unix") && has("symbol") {
                "CryptoDataDownload"
            } else if (has("open_time") || has("open time"))
                && (has("close_time") || has("close time"))
            {
                "Binance klines"
            } else if has("ticker") && has("per") {
                "Stooq"
            } else {
                "time, open, high, low, close"
            };
            let places = Places {
                time,
                clock,
                prices: [open, high, low, close],
                volume,
                value: None,
            };
            Ok((places, what.to_owned()))
        }
        ([None, None, None, None], Some(value)) => {
            Ok((values(time, clock, value), "time, value".to_owned()))
        }
        (_, _) => {
            let missing = ["open", "high", "low", "close"]
                .into_iter()
                .find(|name| !has(name));
            Err(format!(
                "has no column {:?} (its header is {}); say which columns are what, as in \
                 --columns time=Date,open=O,high=H,low=L,close=C, or time=1,value=2",
                missing.unwrap_or("value"),
                listed()
            ))
        }
    }
}

const fn values(time: usize, clock: Option<usize>, value: usize) -> Places {
    Places {
        time,
        clock,
        prices: [value; 4],
        volume: None,
        value: Some(value),
    }
}

/// A file without a header: the number of columns identifies the layout.
fn by_count(fields: &[String]) -> Result<(Places, String), String> {
    let is_epoch = fields
        .first()
        .is_some_and(|first| time::epoch(first).is_some());
    let bars = |time: usize, volume: Option<usize>| Places {
        time,
        clock: None,
        prices: [time + 1, time + 2, time + 3, time + 4],
        volume,
        value: None,
    };
    let found = match fields.len() {
        12 if is_epoch => (bars(0, Some(5)), "Binance klines without a header"),
        8 if is_epoch => (
            bars(0, Some(6)),
            "Kraken bars with the mean price, without a header",
        ),
        7 if is_epoch => (bars(0, Some(5)), "Kraken bars without a header"),
        6 => (
            bars(0, Some(5)),
            "time, open, high, low, close, volume without a header",
        ),
        5 => (
            bars(0, None),
            "time, open, high, low, close without a header",
        ),
        2 => (values(0, None, 1), "time, value without a header"),
        n => {
            return Err(format!(
                "has no header and {n} columns, which is no layout that Thrum knows; name the columns, as in --columns \
                 time=1,open=2,high=3,low=4,close=5 or time=1,value=2"
            ));
        }
    };
    Ok((found.0, found.1.to_owned()))
}

impl Columns {
    fn places(&self, names: &[String], count: usize) -> Result<Places, String> {
        let place = |column: &str| {
            let by_name = names.iter().position(|name| *name == column.to_lowercase());
            let by_position = column
                .parse::<usize>()
                .ok()
                .filter(|n| (1..=count).contains(n));
            by_name.or(by_position.map(|n| n - 1)).ok_or_else(|| {
                let header = if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(",")
                };
                format!(
                    "has no column {column:?}: it has {count} columns, and its header is {header}"
                )
            })
        };
        let of = |role: Role| {
            let given = self.0.iter().find(|(given, _)| *given == role);
            given.map(|(_, column)| place(column)).transpose()
        };
        let need = |role: Role, name: &str| {
            of(role)?.ok_or_else(|| format!("can't be read: --columns must have {name}="))
        };
        let (time, clock) = (need(Role::Time, "time")?, of(Role::Clock)?);
        if let Some(value) = of(Role::Value)? {
            return Ok(values(time, clock, value));
        }
        Ok(Places {
            time,
            clock,
            prices: [
                need(Role::Open, "open")?,
                need(Role::High, "high")?,
                need(Role::Low, "low")?,
                need(Role::Close, "close")?,
            ],
            volume: of(Role::Volume)?,
            value: None,
        })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
