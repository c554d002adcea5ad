//! Schedules in five fields: the default calendar, spread over the hours by a hash of the store's
//! name, and a check of schedules that people wrote. Pure.

use llm_memory_crds::memory_store::RoutineKind;

use crate::hash;
use crate::names::Names;

/// The default schedule of a routine. Stores start at different minutes of the night, always the
/// same ones; no two routines of a store start in the same hour.
pub fn default_schedule(names: &Names, kind: RoutineKind) -> String {
    let seed = hash::hex(format!("{}/{}", names.namespace, names.store).as_bytes());
    let number = u64::from_str_radix(seed.get(..12).unwrap_or_default(), 16).unwrap_or_default();
    let minute = number % 60;
    let day_of_week = number / 60 % 7;
    match kind {
        RoutineKind::Daily => format!("{minute} 1 * * *"),
        RoutineKind::Compaction => format!("{minute} 2 * * *"),
        RoutineKind::Verify => format!("{minute} 3 * * {day_of_week}"),
        RoutineKind::Weekly => format!("{minute} 4 * * {}", (day_of_week + 1) % 7),
        RoutineKind::Monthly => format!("{minute} 5 {} * *", 1 + number / 420 % 28),
        RoutineKind::Quarterly => format!("{minute} 6 {} 1,4,7,10 *", 1 + number / 420 % 28),
    }
}

/// The five fields: name, least and greatest value, names of values from the least upwards.
const FIELDS: [(&str, u32, u32, &[&str]); 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of month", 1, 31, &[]),
    (
        "month",
        1,
        12,
        &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    ),
    ("day of week", 0, 6, &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]),
];

/// Checks each field of a schedule against what a CronJob takes.
pub fn check(schedule: &str) -> Result<(), String> {
    let words: Vec<&str> = schedule.split(' ').collect();
    if words.len() != FIELDS.len() {
        return Err(format!("{} fields instead of five", words.len()));
    }
    for (word, field) in words.iter().zip(FIELDS) {
        for part in word.split(',') {
            check_part(part, field)?;
        }
    }
    Ok(())
}

fn check_part(
    part: &str,
    (name, least, greatest, words): (&str, u32, u32, &[&str]),
) -> Result<(), String> {
    let (range, step) =
        part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
    if let Some(step) = step
        && step.parse::<u32>().is_ok_and(|step| step == 0)
    {
        return Err(format!("the step of the {name} is 0"));
    }
    if range == "*" {
        return Ok(());
    }
    let value = |text: &str| -> Result<u32, String> {
        let named = words
            .iter()
            .zip(least..)
            .find(|(word, _)| word.eq_ignore_ascii_case(text))
            .map(|(_, number)| number);
        named
            .or_else(|| text.parse().ok())
            .filter(|number| (least..=greatest).contains(number))
            .ok_or_else(|| format!("the {name} {text:?} is not from {least} to {greatest}"))
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (value(first)?, value(last)?);
    if first > last {
        return Err(format!("the {name} {range} runs backwards"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_start_at_times_of_their_own_that_never_change() {
        let schedule =
            |store: &str| default_schedule(&Names::new("team", store), RoutineKind::Verify);
        assert_eq!(schedule("a"), schedule("a"));
        let minutes: std::collections::BTreeSet<String> = (0..200)
            .map(|n| schedule(&format!("store-{n}")).split(' ').next().unwrap().to_owned())
            .collect();
        assert!(minutes.len() > 40, "{minutes:?}");
        for kind in [
            RoutineKind::Compaction,
            RoutineKind::Verify,
            RoutineKind::Daily,
            RoutineKind::Weekly,
            RoutineKind::Monthly,
            RoutineKind::Quarterly,
        ] {
            for n in 0..500 {
                let names = Names::new("team", format!("store-{n}"));
                check(&default_schedule(&names, kind)).unwrap();
            }
        }
    }

    #[test]
    fn fields_out_of_the_calendar_are_named() {
        check("*/5 1-4,6 1 JAN-mar SUN").unwrap();
        for (schedule, reason) in [
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of month"),
            ("* * * FOO *", "month"),
            ("* * * * 7", "day of week"),
            ("5-1 * * * *", "backwards"),
            ("*/0 * * * *", "step"),
            ("* * * *", "4 fields"),
        ] {
            assert!(check(schedule).unwrap_err().contains(reason), "{schedule}");
        }
    }
}
