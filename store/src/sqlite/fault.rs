//! What SQLite's errors mean.

use crate::table::TableError;
use rusqlite::ErrorCode;

/// Turns an SQLite error into one that says what the operator must do.
#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
pub fn failed(error: rusqlite::Error) -> TableError {
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the database is damaged; restore a backup"
        }
        Some(ErrorCode::DiskFull) => "the disk is full; free some space",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "can't write to the database; check the file's owner and permissions, and whether its file system is read-only"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program has locked the database; stop it, or wait until it finishes"
        }
        Some(ErrorCode::SystemIoFailure) => {
            "reading or writing the disk failed; check the disk, then restart Thrum"
        }
        _ => "the database failed",
    };
    TableError::Unavailable(format!("{advice} ({error})"))
}

/// Whether other commits may follow one that failed with this error: SQLite has rolled it back, and
/// the state on disk is known.
pub fn is_passing(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}
