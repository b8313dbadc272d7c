//! Reads bars or values from CSV files, in the layouts that exchanges and data services use.

mod layout;
mod time;

pub use layout::{Columns, Layout};

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use layout::Numbers;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thrum_schema::signal::Bar;

/// How much of a file is looked at to recognise its layout.
const HEAD: usize = 64 << 10;
/// The first bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A row: its line number, and its bar or an error. A plain value is a bar with four equal prices.
pub type Row = (u64, Result<Bar, String>);

/// How to read a file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Times without an offset are UTC; otherwise they are errors.
    pub utc: bool,
    /// Which column is what; recognised if absent.
    pub columns: Option<Columns>,
}

/// A CSV file, row by row.
pub struct Rows {
    /// What was recognised.
    pub layout: Layout,
    records: csv::StringRecordsIntoIter<Box<dyn Read>>,
    utc: bool,
    /// Lines that were skipped before the reader began to count.
    skipped: u64,
    read: Arc<AtomicU64>,
    /// The size of the file, in bytes; 0 if unknown.
    pub size: u64,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

/// Counts the bytes that are read.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Opens a CSV file, which may be compressed with gzip, and recognises its layout.
///
/// # Errors
/// The file can't be read, is empty, or has no layout that is known.
pub fn open(path: &Path, options: &Options) -> anyhow::Result<Rows> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| format!("can't read {name}"))?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let mut rows = read(file, &name, options)?;
    rows.size = size;
    Ok(rows)
}

/// Like [`open`], from any reader; `name` stands for the file in errors.
///
/// # Errors
/// The input can't be read, is empty, or has no layout that is known.
pub fn read(from: impl Read + 'static, name: &str, options: &Options) -> anyhow::Result<Rows> {
    let read = Arc::<AtomicU64>::default();
    let counted = Counted {
        inner: from,
        read: Arc::clone(&read),
    };
    let cant = || format!("can't read {name}");
    let mut raw = BufReader::with_capacity(HEAD, counted);
    let is_gzip = raw.fill_buf().with_context(cant)?.starts_with(&GZIP);
    let mut plain: Box<dyn Read> = if is_gzip {
        Box::new(MultiGzDecoder::new(raw))
    } else {
        Box::new(raw)
    };
    let mut head = Vec::new();
    plain
        .by_ref()
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .with_context(cant)?;
    let recognised = layout::recognise(&head, options.columns.as_ref())
        .map_err(|problem| anyhow::anyhow!("{name} {problem}"))?;
    let layout::Recognised {
        layout,
        skip,
        skipped,
    } = recognised;
    head.drain(..skip);
    let whole: Box<dyn Read> = Box::new(std::io::Cursor::new(head).chain(plain));
    let records = csv::ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .delimiter(layout.delimiter)
        .has_headers(layout.has_header)
        .from_reader(whole)
        .into_records();
    Ok(Rows {
        layout,
        records,
        utc: options.utc,
        skipped,
        read,
        size: 0,
    })
}

impl Rows {
    /// How many bytes of the file were read.
    pub fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn row(&self, record: &csv::StringRecord) -> Result<Bar, String> {
        let columns = &self.layout.columns;
        let field = |i: usize| record.get(i).unwrap_or_default();
        let number = |i: usize| {
            let text = field(i);
            self.layout.numbers.parse(text).ok_or_else(|| {
                let name = self.layout.names.get(i);
                let name = name.map_or_else(|| format!("column {}", i + 1), Clone::clone);
                format!("{name} must be a number (got {text:?})")
            })
        };
        let at = match columns.clock {
            // A date and a time of day in columns of their own.
            Some(clock) => time::parse(
                &format!("{} {}", field(columns.time), field(clock)),
                self.utc,
            ),
            None => time::parse(field(columns.time), self.utc),
        }?;
        if let Some(value) = columns.value {
            return Ok(Bar::value(at, number(value)?));
        }
        let [open, high, low, close] = columns.prices;
        Ok(Bar {
            time: at,
            open: number(open)?,
            high: number(high)?,
            low: number(low)?,
            close: number(close)?,
            volume: match columns.volume.map(|i| (i, field(i))) {
                None | Some((_, "")) => None,
                Some((i, _)) => Some(number(i)?),
            },
        })
    }
}

impl Iterator for Rows {
    type Item = anyhow::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.records.next()? {
            Ok(record) => record,
            Err(error) => return Some(Err(error.into())),
        };
        let line = record.position().map_or(0, csv::Position::line) + self.skipped;
        Some(Ok((line, self.row(&record))))
    }
}

impl Numbers {
    fn parse(self, text: &str) -> Option<f64> {
        let number = match self {
            Self::Point => text.parse(),
            Self::Comma => text.replace('.', "").replace(',', ".").parse(),
        };
        number.ok().filter(|x: &f64| x.is_finite())
    }
}
