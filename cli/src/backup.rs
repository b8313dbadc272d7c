//! `thrum backup`: copies the database while the server runs.

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::ErrorKind;
use std::path::PathBuf;
use thrum_store::sqlite;

const EXAMPLES: &str = "\
Examples:
  thrum backup /backups/thrum-$(date +%F).db
  thrum backup --data /var/lib/thrum /backups/thrum.db

To restore a backup, copy it into an empty directory as thrum.db and start the server on it:
  mkdir -m 700 restored && cp /backups/thrum.db restored/thrum.db
  thrum serve --data restored";

/// Arguments of `thrum backup`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Backup {
    /// File to write; it must not exist
    file: PathBuf,

    /// Data directory of the server
    #[arg(
        long,
        env = "THRUM_DATA",
        default_value = "./thrum-data",
        value_name = "DIR"
    )]
    data: PathBuf,
}

/// `thrum backup`
///
/// # Errors
/// There is no database, or the target file exists or can't be written.
pub fn backup(args: &Backup) -> anyhow::Result<()> {
    let database = args.data.join(sqlite::FILE);
    match std::fs::metadata(&database) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "no database in {}; set --data to the data directory of the server",
            args.data.display()
        ),
        Err(error) => bail!(
            "can't read {}: {error}; run this command as the user that runs the server",
            database.display()
        ),
    }
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{bar:40} {percent}% {msg}")
            .context("invalid progress bar template")?,
    );
    sqlite::backup(&database, &args.file, |pages, left| {
        bar.set_length(pages);
        bar.set_position(pages.saturating_sub(left));
    })?;
    bar.finish_and_clear();
    let bytes = std::fs::metadata(&args.file).map_or(0, |file| file.len());
    println!(
        "Copied {} to {} ({bytes} bytes).\nTo restore it, copy it into an empty directory as {} and \
         start the server with --data set to that directory.",
        database.display(),
        args.file.display(),
        sqlite::FILE
    );
    Ok(())
}
