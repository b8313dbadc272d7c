//! The values of options that have several parts.

use thrum_schema::signal::request::Sizing;

fn number(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim().parse().ok();
    number
        .filter(|x| x.is_finite())
        .ok_or_else(|| format!("{text:?} is not a number"))
}

fn whole(text: &str) -> Result<u32, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{text:?} is not a whole number"))
}

/// `fraction=0.5`, `fixed=0.1`, `volatility=0.2` or `volatility=0.2,50`.
pub fn sizing(text: &str) -> Result<Sizing, String> {
    match text.split_once('=') {
        Some(("fraction", value)) => number(value).map(Sizing::Fraction),
        Some(("fixed", value)) => number(value).map(Sizing::Fixed),
        Some(("volatility", value)) => {
            let (target, bars) = match value.split_once(',') {
                Some((target, bars)) => (target, whole(bars)?),
                None => (value, 20),
            };
            let target = number(target)?;
            Ok(Sizing::Volatility { target, bars })
        }
        _ => Err("must be fraction=0.5, fixed=0.1 or volatility=0.2".to_owned()),
    }
}

/// `fast=5,10,20`.
pub fn values(text: &str) -> Result<(String, Vec<f64>), String> {
    let (name, values) = text
        .split_once('=')
        .ok_or("must be NAME=NUMBERS, such as fast=5,10,20")?;
    let values = values.split(',').map(number);
    Ok((name.to_owned(), values.collect::<Result<_, _>>()?))
}

/// `2000,500`.
pub fn stretches(text: &str) -> Result<(u32, u32), String> {
    let (train, test) = text
        .split_once(',')
        .ok_or("must be TRAIN,TEST, such as 2000,500")?;
    Ok((whole(train)?, whole(test)?))
}
