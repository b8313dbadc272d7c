//! Compares the anomaly detectors with those of other libraries, on simulated series with known
//! incidents, or on files.
//!
//! A detector meets the values one at a time. Values of the first 28 days are not judged. An
//! incident is found if one of its values is. A false alarm is a run of anomalous values (gaps of
//! one allowed) that are neither in an incident nor among the two values after it.

use anyhow::{Context, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use thrum_schema::UnixMs;
use thrum_schema::signal::engine::Program;
use thrum_schema::signal::strategy::builtin;
use thrum_schema::signal::{Bar, Timeframe};

/// The values of these days are not judged.
const WARM_UP_MS: i64 = 28 * 86_400_000;

/// Options of the comparison.
#[derive(Debug, clap::Args)]
pub struct Detectors {
    /// Seed of the simulated series
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder of CSV files with `time,value,incident` to judge instead of simulated series
    #[arg(long)]
    files: Option<PathBuf>,
    /// Python with e2e/detectors/requirements.txt, to compare with river, statsmodels and adtk
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Python with numpy, which simulates the series
    #[arg(long, env = "THRUM_TEST_PYTHON")]
    python: Option<PathBuf>,
    /// Detectors to judge
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "auto,seasonal,holt-winters,robust-zscore,ewma"
    )]
    detectors: Vec<String>,
}

/// How a detector did on the series of a group.
#[derive(Debug, Clone, Copy, Default)]
pub struct Score {
    /// How many incidents there are.
    pub incidents: usize,
    /// How many of them were found.
    pub found: usize,
    /// How many false alarms there were.
    pub false_alarms: usize,
    /// How many days were judged, of all series together.
    pub days: f64,
    values: usize,
    spent: Duration,
}

impl Score {
    /// False alarms per day of a series.
    pub fn false_alarms_a_day(&self) -> f64 {
        self.false_alarms as f64 / self.days.max(f64::MIN_POSITIVE)
    }
}

/// Prints how each detector does on each group of series.
///
/// # Errors
/// A script fails, or a file is no series.
pub fn run(options: &Detectors) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let files = match &options.files {
        Some(files) => files.as_path(),
        None => {
            let python = options.python.as_deref();
            let python = python.context("--python or THRUM_TEST_PYTHON is required")?;
            simulate(python, folder.path(), options.seed)?;
            folder.path()
        }
    };
    println!(
        "{:<20}{:<16}{:>12}{:>14}{:>12}",
        "series", "detector", "found", "false a day", "ns a value"
    );
    for name in &options.detectors {
        for (group, score) in judge(name, files)? {
            println!(
                "{group:<20}{name:<16}{:>12}{:>14.4}{:>12.0}",
                format!("{} of {}", score.found, score.incidents),
                score.false_alarms_a_day(),
                score.spent.as_nanos() as f64 / score.values.max(1) as f64
            );
        }
    }
    if let Some(peers) = &options.peers {
        let script = scripts().join("peers.py");
        let mut peers = Command::new(peers);
        let peers = peers.env("OMP_NUM_THREADS", "1").arg(script).arg(files);
        if !peers.status()?.success() {
            bail!("peers.py failed");
        }
    }
    Ok(())
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("detectors")
}

/// Simulates series, as files in `folder`.
///
/// # Errors
/// The script fails.
pub fn simulate(python: &Path, folder: &Path, seed: u64) -> anyhow::Result<()> {
    let mut script = Command::new(python);
    script.arg(scripts().join("generate.py")).arg(folder);
    if !script.arg(seed.to_string()).status()?.success() {
        bail!("generate.py failed");
    }
    Ok(())
}

/// Judges the series in `folder`, by group: the part of the file's name before the first `-`.
///
/// # Errors
/// There is no such detector, or a file is no series.
pub fn judge(detector: &str, folder: &Path) -> anyhow::Result<BTreeMap<String, Score>> {
    let mut groups: BTreeMap<String, Score> = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let group = name.split('-').next().unwrap_or_default().to_owned();
        let series = read(&path).with_context(|| path.display().to_string())?;
        judge_series(detector, &series, groups.entry(group).or_default())?;
    }
    Ok(groups)
}

/// A value, and the incident that it belongs to.
type Row = (UnixMs, f64, Option<u32>);

fn read(path: &Path) -> anyhow::Result<Vec<Row>> {
    let text = std::fs::read_to_string(path)?;
    let rows = text.lines().skip(1).map(|line| {
        let mut fields = line.split(',');
        let mut field = || fields.next().context("too few columns");
        let time = UnixMs::parse("time", field()?)?;
        let value = field()?.parse()?;
        let incident = field()?;
        let incident = (!incident.is_empty())
            .then(|| incident.parse())
            .transpose()?;
        Ok((time, value, incident))
    });
    rows.collect()
}

/// The timeframe of evenly spaced hourly values; other values come at arbitrary times.
fn timeframe_of(series: &[Row]) -> Timeframe {
    let hourly = series
        .iter()
        .all(|(at, ..)| Timeframe::HOUR.open_of(*at) == *at);
    if hourly {
        Timeframe::HOUR
    } else {
        Timeframe::TICK
    }
}

fn judge_series(detector: &str, series: &[Row], score: &mut Score) -> anyhow::Result<()> {
    let strategy = builtin(detector).with_context(|| format!("there is no detector {detector}"))?;
    let compiled = strategy.compile(None, &BTreeMap::new(), timeframe_of(series))?;
    let (program, begin) = (Program::new(compiled), series[0].0 + WARM_UP_MS);
    let mut state = program.begin();
    let started = Instant::now();
    let judged = series.iter().map(|(at, value, _)| {
        let verdict = program.step(&mut state, &Bar::value(*at, *value), None);
        verdict.is_anomalous()
    });
    let judged: Vec<bool> = judged.collect();
    score.spent += started.elapsed();
    score.values += series.len();
    let (mut incidents, mut found) = (BTreeSet::new(), BTreeSet::<u32>::new());
    let (mut since_incident, mut last) = (usize::MAX, None::<usize>);
    // Whether each run of anomalous values is a false alarm.
    let mut runs: Vec<bool> = Vec::new();
    for (i, ((at, _, incident), anomalous)) in series.iter().zip(judged).enumerate() {
        if *at < begin {
            continue;
        }
        since_incident = match incident {
            Some(number) => {
                incidents.insert(*number);
                0
            }
            None => since_incident.saturating_add(1),
        };
        if !anomalous {
            continue;
        }
        found.extend(incident);
        if last.is_none_or(|last| i - last > 2) {
            runs.push(true);
        }
        last = Some(i);
        if since_incident <= 2
            && let Some(run) = runs.last_mut()
        {
            *run = false;
        }
    }
    score.incidents += incidents.len();
    score.found += found.len();
    score.false_alarms += runs.iter().filter(|is_false| **is_false).count();
    score.days += (series[series.len() - 1].0 - begin).max(0) as f64 / 86_400_000.0;
    Ok(())
}
