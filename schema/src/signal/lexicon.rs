//! Scores a text by its words known as good or bad news, all with the same weight. A negation among
//! the three preceding words inverts a word. Simple, and the same for everyone; clients with a
//! better model can send scores instead.

/// Maximum length of a text, in characters.
pub const MAX_TEXT: usize = 10_000;

const GOOD: &[&str] = &[
    "adopt",
    "adopted",
    "adoption",
    "approval",
    "approve",
    "approved",
    "beat",
    "beats",
    "boom",
    "breakout",
    "bull",
    "bullish",
    "buy",
    "buying",
    "climb",
    "climbs",
    "confidence",
    "confident",
    "gain",
    "gained",
    "gains",
    "good",
    "great",
    "greed",
    "grow",
    "growing",
    "growth",
    "high",
    "higher",
    "improve",
    "improved",
    "improves",
    "jump",
    "jumped",
    "jumps",
    "moon",
    "optimism",
    "optimistic",
    "outperform",
    "positive",
    "profit",
    "profits",
    "rallied",
    "rallies",
    "rally",
    "rebound",
    "record",
    "recover",
    "recovered",
    "recovery",
    "rise",
    "rises",
    "rising",
    "rose",
    "soar",
    "soared",
    "soars",
    "strong",
    "stronger",
    "success",
    "support",
    "surge",
    "surged",
    "surges",
    "up",
    "upgrade",
    "upgraded",
    "upside",
    "win",
    "wins",
];

const BAD: &[&str] = &[
    "attack",
    "bad",
    "ban",
    "bankrupt",
    "bankruptcy",
    "banned",
    "bear",
    "bearish",
    "breach",
    "collapse",
    "collapsed",
    "crash",
    "crashed",
    "crashes",
    "crisis",
    "decline",
    "declined",
    "declines",
    "default",
    "down",
    "downgrade",
    "downgraded",
    "downside",
    "drop",
    "dropped",
    "drops",
    "dump",
    "exploit",
    "fall",
    "fallen",
    "falls",
    "fear",
    "fears",
    "fell",
    "fraud",
    "hack",
    "hacked",
    "lawsuit",
    "liquidated",
    "liquidation",
    "lose",
    "loses",
    "loss",
    "losses",
    "lost",
    "low",
    "lower",
    "miss",
    "missed",
    "negative",
    "outflow",
    "outflows",
    "panic",
    "pessimism",
    "pessimistic",
    "plunge",
    "plunged",
    "plunges",
    "poor",
    "recession",
    "reject",
    "rejected",
    "risk",
    "scam",
    "sell",
    "selling",
    "selloff",
    "sink",
    "sinks",
    "slump",
    "slumped",
    "tumble",
    "tumbled",
    "tumbles",
    "weak",
    "weaker",
    "worse",
    "worst",
];

const NOT: &[&str] = &[
    "cannot", "cant", "didnt", "doesnt", "dont", "hardly", "isnt", "lack", "never", "no", "nor",
    "not", "wasnt", "without", "wont",
];

/// How many words a negation reaches.
const REACH: usize = 3;

/// The score of a text, 0 to 1; 0.5 if it has as many good as bad words; `None` if it has none that
/// are known.
pub fn score(text: &str) -> Option<f64> {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’')
        .map(|word| {
            word.chars()
                .filter(|c| c.is_alphanumeric())
                .collect::<String>()
                .to_lowercase()
        })
        .filter(|word| !word.is_empty())
        .collect();
    let (mut good, mut bad) = (0_u32, 0_u32);
    for (i, word) in words.iter().enumerate() {
        let is_good = GOOD.binary_search(&word.as_str()).is_ok();
        let is_bad = BAD.binary_search(&word.as_str()).is_ok();
        if !is_good && !is_bad {
            continue;
        }
        let before = &words[i.saturating_sub(REACH)..i];
        let negated = before
            .iter()
            .any(|word| NOT.binary_search(&word.as_str()).is_ok());
        if is_good != negated {
            good += 1;
        } else {
            bad += 1;
        }
    }
    // Add one to both counts, so that a single word does not mean certainty.
    (good + bad > 0).then(|| (f64::from(good) + 1.0) / (f64::from(good + bad) + 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_lists_are_sorted_and_disjoint() {
        for list in [GOOD, BAD, NOT] {
            assert!(list.is_sorted());
        }
        assert!(GOOD.iter().all(|word| BAD.binary_search(word).is_err()));
    }

    #[test]
    fn texts_are_scored() {
        for (text, expected) in [
            ("Prices SURGE!", 2.0 / 3.0),
            ("Fear of a crash", 0.25),
            ("no recovery, growth is not strong", 0.2),
            ("It isn't good", 1.0 / 3.0),
            ("not one of the many bad ones", 1.0 / 3.0),
            ("gains and losses", 0.5),
        ] {
            let found = score(text).unwrap();
            assert!((found - expected).abs() < 1e-12, "{text}: {found}");
        }
        for text in ["", "The committee met on Tuesday."] {
            assert_eq!(score(text), None, "{text}");
        }
    }
}
