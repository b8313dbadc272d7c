//! What a value is expected to be, from the series' own history: the last values, the same hour of
//! the day, or the same hour or day of the week, whichever came closest so far.

use super::shift::Shift;
use super::slots::{Place, Slots};
use super::spread::{Compared, Limits, Scale, Spread, Strictness};
use super::window::{Window, median};
use crate::UnixMs;
use crate::signal::explanation::Basis;
use serde::{Deserialize, Serialize};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const WEEK_MS: i64 = 7 * DAY_MS;
/// Lengths that slots may have, in hours.
const SLOT_HOURS: [i64; 8] = [1, 2, 3, 4, 6, 8, 12, 24];
/// Values at arbitrary times: how many are needed to know how often they come.
const GAPS: usize = 8;
/// Values in the windows of the last values.
const RECENT: u32 = 5;
const LEVEL: u32 = 50;
/// How many past days the hours of the day remember.
const DAYS: u8 = 8;
/// Warm-up: as many values; for values of a day's hours, so much time, because some of them may
/// jump.
const MIN_VALUES: u32 = 14;
const MIN_MS: i64 = 26 * HOUR_MS;
/// Until a series has been known for so long, what was never seen before is not normal only if it
/// is far from everything seen.
const YOUNG_MS: i64 = 15 * DAY_MS;
/// How far, as a share of the range seen.
const BEYOND: f64 = 0.5;
/// How often a candidate must be compared with the values before it is chosen.
const MIN_COMPARED: u32 = 7;
/// How many values are remembered with what the candidates expected.
const LAST: usize = 64;
/// Weight of a new error in the mean error of a candidate.
const ERROR_WEIGHT: f64 = 0.015;
/// Another candidate is chosen if its error is below this share of the chosen one's.
const BETTER: f64 = 0.95;
/// A value of a series that is mostly 0 may exceed the largest one so far by this factor.
const RECORD: f64 = 1.5;

/// How often something must happen to be usual now and then.
const NOW_AND_THEN: usize = 3;

/// The candidates.
const CANDIDATES: [Basis; 4] = [Basis::Recent, Basis::Level, Basis::Day, Basis::Week];

/// Weight of a new error in the mean error of shifted hours, and the share of the
/// present error that theirs must fall below.
const CLOCK_WEIGHT: f64 = 0.02;
const CLOCK_BETTER: f64 = 0.6;

/// How long the level of the slots takes to follow that of the values, and the most that it follows
/// one of them.
const FOLLOW_MS: f64 = 2.0 * DAY_MS as f64;
const MAX_WEIGHT: f64 = 0.1;
/// How long the largest value takes to fade.
const FADE_MS: f64 = 8.0 * WEEK_MS as f64;

/// What each candidate expects.
pub type Expected = [Option<f64>; 4];

/// What the candidates expect, and where in the day and the week.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outlook {
    pub expected: Expected,
    places: [Option<Place>; 2],
    /// Where slots began when it was made.
    phase_ms: i64,
}

impl Outlook {
    /// What the only candidate expects.
    pub fn of(expected: Option<f64>) -> Self {
        Self {
            expected: [expected, None, None, None],
            ..Self::default()
        }
    }
}

/// How a series uses the days and weeks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Clock {
    interval_ms: i64,
    /// The length of a slot; 0 if values are too rare for weekdays.
    slot_ms: i64,
    /// Where slots begin, so that values lie in their middle.
    phase_ms: i64,
    /// Whether several values share a slot.
    is_fine: bool,
    /// How much the offsets of the slots follow a value.
    weight: f64,
    /// What is left of the largest value when another one comes.
    fade: f64,
    /// How much wider limits are by how often values come.
    often: f64,
}

impl Clock {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
    fn new(interval_ms: i64, example: UnixMs) -> Self {
        let hours = SLOT_HOURS.iter().map(|hours| hours * HOUR_MS);
        let nearest = hours.min_by_key(|slot| (slot - interval_ms).abs());
        let slot_ms = nearest.filter(|_| interval_ms < 3 * DAY_MS / 2);
        let slot_ms = slot_ms.unwrap_or(0);
        let is_fine = interval_ms < HOUR_MS * 3 / 4;
        let phase_ms = if is_fine || slot_ms == 0 {
            0
        } else {
            (example.0 + slot_ms / 2).rem_euclid(slot_ms)
        };
        Self {
            interval_ms,
            slot_ms,
            phase_ms,
            is_fine,
            weight: (interval_ms as f64 / FOLLOW_MS).min(MAX_WEIGHT),
            fade: 1.0 - (interval_ms as f64 / FADE_MS).min(0.1),
            often: Strictness::often(interval_ms),
        }
    }

    /// A time in slots since the epoch; slots of a week count from a Thursday.
    #[expect(clippy::cast_precision_loss, reason = "slots since the epoch")]
    fn slot(&self, at: UnixMs) -> f64 {
        (at.0 - self.phase_ms) as f64 / self.slot_ms as f64
    }

    fn per_day(&self) -> usize {
        if self.slot_ms == 0 {
            return 0;
        }
        usize::try_from(DAY_MS / self.slot_ms).unwrap_or(0)
    }
}

/// A series' history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    clock: Option<Clock>,
    /// The first values, until the clock is known.
    early: Vec<(UnixMs, f64)>,
    weeks: u8,
    /// The only candidate, if it is not to be chosen.
    only: Option<u8>,
    recent: Window,
    level: Window,
    day: Option<Slots>,
    week: Option<Slots>,
    /// The mean error of each candidate, and how often it was compared.
    errors: [(f64, u32); 4],
    /// The mean errors of the week's slots as they are, an hour earlier, and an hour later.
    shifted: [f64; 3],
    chosen: u8,
    spread: Spread,
    /// The last normal values, each with what the candidates expected, as a ring: what the spread
    /// about another candidate is computed from.
    last: Vec<(f64, Expected)>,
    next: u8,
    seen: u32,
    first: UnixMs,
    least: f64,
    most: f64,
    record: f64,
    /// The last values that were alone beyond the limits.
    singles: Vec<f64>,
}

impl Baseline {
    /// `only`: 24, 168 or 7 for slots of the day or the week, whatever comes closest; 0 for the
    /// week; `None` to choose. `interval_ms` is `None` if values come at arbitrary times.
    pub fn new(only: Option<u32>, weeks: u8) -> Self {
        Self {
            clock: None,
            early: Vec::new(),
            weeks,
            only: only.map(|period| if period == 24 { 2 } else { 3 }),
            recent: Window::new(RECENT),
            level: Window::new(LEVEL),
            day: None,
            week: None,
            errors: [(0.0, 0); 4],
            shifted: [0.0; 3],
            chosen: 1,
            spread: Spread::default(),
            last: Vec::new(),
            next: 0,
            seen: 0,
            first: UnixMs(0),
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
            record: 0.0,
            singles: Vec::new(),
        }
    }

    /// What the values are compared with.
    pub fn basis(&self) -> Basis {
        match (CANDIDATES[usize::from(self.chosen)], self.clock) {
            (Basis::Week, Some(clock)) if clock.per_day() == 1 => Basis::Weekday,
            (basis, _) => basis,
        }
    }

    /// What each candidate expects at `at`.
    pub fn expect(&self, at: UnixMs) -> Outlook {
        let Some(clock) = &self.clock else {
            return Outlook::default();
        };
        let slot = clock.slot(at);
        let place = |slots: &Slots| slots.place(slot, clock.is_fine);
        let places = [self.day.as_ref().map(place), self.week.as_ref().map(place)];
        let of =
            |slots: &Option<Slots>, place: &Option<Place>| slots.as_ref()?.expect(place.as_ref()?);
        Outlook {
            expected: [
                self.recent.median(),
                self.level.median(),
                of(&self.day, &places[0]),
                of(&self.week, &places[1]),
            ],
            places,
            phase_ms: clock.phase_ms,
        }
    }

    /// The expected value: by the chosen candidate, or by the next one that has one.
    pub fn centre(&self, expected: &Expected) -> Option<f64> {
        if self.only.is_some() {
            return expected[usize::from(self.chosen)];
        }
        expected[..=usize::from(self.chosen)]
            .iter()
            .rev()
            .find_map(|expected| *expected)
    }

    /// Compares a value with what is usual; `None` during the warm-up.
    pub fn compare(&self, at: UnixMs, centre: f64, x: f64, k: f64) -> Option<Limits> {
        let clock = self.clock.as_ref()?;
        let is_hourly = clock.per_day() > 1 && !clock.is_fine;
        let waits = is_hourly && at - self.first < MIN_MS;
        if self.seen < MIN_VALUES || waits {
            return None;
        }
        let scale = self.scale();
        let middle = scale.of(centre);
        let deviation = scale.of(x) - middle;
        let strictness = Strictness::new(k, clock.interval_ms, clock.often);
        let mut compared = self.spread.compare(middle, deviation, strictness);
        let mut low = scale.back(middle - compared.limit);
        let mut high = scale.back(middle + compared.limit);
        let is_mostly_zero = self.level.median() == Some(0.0);
        if is_mostly_zero && self.least >= 0.0 {
            high = high.max(RECORD * self.record);
            compared.together = 0.0;
        }
        if self.is_young(at) {
            let beyond = BEYOND * (self.most - self.least);
            low = low.min(self.least - beyond);
            high = high.max(self.most + beyond);
            compared.together = 0.0;
        }
        let is_within = low <= x && x <= high;
        if is_within {
            compared.alone = compared.alone.clamp(-1.0, 1.0);
        }
        Some(Limits {
            low,
            high,
            ..Limits::around(centre, compared)
        })
    }

    /// Values that were never negative vary more the larger they are, and more upwards than
    /// downwards.
    fn scale(&self) -> Scale {
        Scale::new(self.least >= 0.0)
    }

    /// Whether the weeks of the series are not known yet.
    fn is_young(&self, at: UnixMs) -> bool {
        let has_weeks = self.errors[3].1 >= MIN_COMPARED && at - self.first > 2 * WEEK_MS;
        self.only.is_none() && !has_weeks && at - self.first < YOUNG_MS.max(self.seen_ms(21))
    }

    fn seen_ms(&self, values: i64) -> i64 {
        self.clock.map_or(0, |clock| match clock.per_day() {
            1 => values * clock.interval_ms,
            _ => 0,
        })
    }

    /// Notes the deviation of a value. `limit` is given if it counts as usual.
    pub fn deviates(
        &mut self,
        x: f64,
        outlook: &Outlook,
        centre: f64,
        compared: Option<&Compared>,
        limit: Option<f64>,
    ) {
        let expected = &outlook.expected;
        let scale = self.scale();
        let (middle, y) = (scale.of(centre), scale.of(x));
        let fresh = || self.spread.compare(middle, y - middle, Strictness::ANY);
        let compared = compared.copied().unwrap_or_else(fresh);
        self.spread.learn(y - middle, &compared, limit);
        let most = match limit {
            Some(limit) if limit.is_finite() => scale.back(middle + limit) - centre,
            _ => f64::INFINITY,
        };
        for (error, expected) in self.errors.iter_mut().zip(expected) {
            if let Some(expected) = expected {
                let size = (x - expected).abs().min(3.0 * most);
                error.1 = error.1.saturating_add(1);
                error.0 += (size - error.0) * ERROR_WEIGHT.max(1.0 / f64::from(error.1));
            }
        }
        self.follow_clocks(outlook, x);
        if limit == Some(f64::INFINITY) {
            self.remember(x, expected);
            let before = self.chosen;
            self.choose();
            if self.chosen != before {
                self.spread_again();
            }
        }
        if limit.is_some() && x.abs() > self.record {
            self.record = x.abs();
        }
    }

    /// Follows people's clocks: if the hours of the week fit better an hour earlier or later, they
    /// were put forward or back.
    fn follow_clocks(&mut self, outlook: &Outlook, x: f64) {
        let (Some(clock), Some(week)) = (&mut self.clock, &self.week) else {
            return;
        };
        let (Some(now), Some(place)) = (outlook.expected[3], &outlook.places[1]) else {
            return;
        };
        if clock.slot_ms != HOUR_MS {
            return;
        }
        let others = week.around(place);
        for (error, expected) in self
            .shifted
            .iter_mut()
            .zip([Some(now), others[0], others[1]])
        {
            let size = (x - expected.unwrap_or(now)).abs();
            *error += (size - *error) * CLOCK_WEIGHT;
        }
        let [here, earlier, later] = self.shifted;
        if earlier.min(later) < CLOCK_BETTER * here {
            let by = if earlier < later { 1 } else { -1 };
            clock.phase_ms += by * HOUR_MS;
            self.shifted = [earlier.min(later), here, here];
        }
    }

    fn remember(&mut self, x: f64, expected: &Expected) {
        if self.last.len() < LAST {
            self.last.push((x, *expected));
        } else {
            self.last[usize::from(self.next)] = (x, *expected);
            self.next = (self.next + 1) % LAST as u8;
        }
    }

    /// Computes the spread about the candidate that was just chosen.
    fn spread_again(&mut self) {
        self.spread = Spread::default();
        let scale = self.scale();
        let (newer, older) = self.last.split_at(usize::from(self.next));
        for (x, expected) in older.iter().chain(newer) {
            if let Some(centre) = expected[usize::from(self.chosen)] {
                let middle = scale.of(centre);
                let deviation = scale.of(*x) - middle;
                let compared = self.spread.compare(middle, deviation, Strictness::ANY);
                self.spread.learn(deviation, &compared, Some(f64::INFINITY));
            }
        }
    }

    fn choose(&mut self) {
        if let Some(only) = self.only {
            self.chosen = only;
            return;
        }
        let per_day = self.clock.map_or(0, |clock| clock.per_day()) as u32;
        let enough = [
            MIN_COMPARED,
            MIN_COMPARED,
            (per_day / 2).max(MIN_COMPARED),
            (per_day * 2).max(MIN_COMPARED),
        ];
        let chosen = usize::from(self.chosen);
        let is_known = |i: usize| self.errors[i].1 >= enough[i];
        let mut best = chosen;
        for i in 0..CANDIDATES.len() {
            let limit = if best == chosen { BETTER } else { 1.0 };
            if is_known(i) && (!is_known(best) || self.errors[i].0 < limit * self.errors[best].0) {
                best = i;
            }
        }
        self.chosen = u8::try_from(best).unwrap_or(1);
    }

    /// Learns a normal value, of which `outlook` was expected.
    pub fn learn(&mut self, at: UnixMs, interval_ms: Option<i64>, x: f64, outlook: &Outlook) {
        let Some(clock) = &self.clock else {
            self.start(at, interval_ms, x);
            return;
        };
        // Another level, or other clocks, since then.
        if clock.phase_ms != outlook.phase_ms {
            let outlook = self.expect(at);
            self.take(&outlook, x);
        } else {
            self.take(outlook, x);
        }
    }

    fn start(&mut self, at: UnixMs, interval_ms: Option<i64>, x: f64) {
        if self.early.is_empty() {
            self.first = at;
        }
        self.early.push((at, x));
        let interval = match interval_ms {
            Some(ms) => ms,
            None if self.early.len() <= GAPS => return,
            None => {
                let pairs = self.early.windows(2);
                let mut gaps: Vec<f64> = pairs.map(|pair| (pair[1].0 - pair[0].0) as f64).collect();
                gaps.sort_unstable_by(f64::total_cmp);
                #[expect(clippy::cast_possible_truncation, reason = "milliseconds")]
                let gap = median(&gaps).unwrap_or_default() as i64;
                gap.max(1)
            }
        };
        let clock = Clock::new(interval, at);
        let per_day = clock.per_day();
        self.day = (per_day > 1).then(|| Slots::new(per_day, DAYS));
        self.week = (per_day > 0).then(|| Slots::new(7 * per_day, self.weeks));
        self.clock = Some(clock);
        for (at, x) in std::mem::take(&mut self.early) {
            let outlook = self.expect(at);
            self.take(&outlook, x);
        }
    }

    fn take(&mut self, outlook: &Outlook, x: f64) {
        let Some(clock) = self.clock else { return };
        self.seen = self.seen.saturating_add(1);
        if x < 0.0 && self.least >= 0.0 {
            self.least = x;
            self.spread_again();
        }
        self.least = self.least.min(x);
        self.most = self.most.max(x);
        self.record = self.record.max(x.abs()) * clock.fade;
        self.recent.push(x);
        self.level.push(x);
        let are_positive = self.least > 0.0;
        for (slots, place) in [&mut self.day, &mut self.week]
            .into_iter()
            .zip(&outlook.places)
        {
            if let (Some(slots), Some(place)) = (slots, place) {
                slots.learn(place, x, clock.weight, are_positive);
            }
        }
    }

    /// Notes that a value was alone beyond the limits. In a series that is mostly 0, what happens
    /// now and then is usual.
    pub fn was_alone(&mut self, x: f64) {
        self.singles.push(x.abs());
        if self.singles.len() == NOW_AND_THEN {
            let least = self.singles.iter().copied().fold(f64::INFINITY, f64::min);
            self.record = self.record.max(least);
            self.singles.remove(0);
        }
    }

    /// Moves the history to a new level.
    pub fn shift(&mut self, shift: Shift) {
        self.recent.shift(shift);
        self.level.shift(shift);
        for slots in [&mut self.day, &mut self.week].into_iter().flatten() {
            slots.shift(shift);
        }
        self.least = shift.of(self.least);
        self.most = shift.of(self.most);
        self.record = shift.of(self.record).abs();
        for (x, expected) in &mut self.last {
            *x = shift.of(*x);
            for expected in expected.iter_mut().flatten() {
                *expected = shift.of(*expected);
            }
        }
        if let Shift::Times(factor) = shift {
            self.spread.scale(factor);
            for error in &mut self.errors {
                error.0 *= factor;
            }
        }
    }
}
