use super::*;
use jiff::civil::date;
use std::process::Command;

fn days_of(rule: &str, from: Date, to: Date) -> Vec<Date> {
    let rule = Recurrence::parse(rule).unwrap();
    from.series(jiff::Span::new().days(1))
        .take_while(|d| *d <= to)
        .filter(|d| rule.matches(*d))
        .collect()
}

#[test]
fn rules_that_people_write_mean_the_days_that_people_mean() {
    let in_2027 = |rule: &str| {
        let days = days_of(rule, date(2027, 1, 1), date(2027, 4, 30));
        days.iter().map(|d| d.strftime("%m-%d").to_string()).collect::<Vec<_>>().join(" ")
    };
    for (rule, days) in [
        ("FREQ=MONTHLY;BYDAY=2SA", "01-09 02-13 03-13 04-10"),
        ("freq=monthly;byday=-1fr", "01-29 02-26 03-26 04-30"),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "01-29 02-26 03-31 04-30"),
        ("FREQ=MONTHLY;BYDAY=SA,SU;BYSETPOS=1", "01-02 02-06 03-06 04-03"),
        ("FREQ=MONTHLY;BYMONTHDAY=-1", "01-31 02-28 03-31 04-30"),
        ("FREQ=MONTHLY;BYMONTHDAY=31", "01-31 03-31"),
        ("FREQ=MONTHLY;BYDAY=5SU", "01-31"),
        ("FREQ=YEARLY;BYMONTH=2,4;BYDAY=1MO", "02-01 04-05"),
        ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", ""),
    ] {
        assert_eq!(in_2027(rule), days, "{rule}");
    }
    assert_eq!(days_of("FREQ=DAILY", date(2027, 1, 1), date(2027, 1, 9)).len(), 9);
    assert_eq!(days_of("FREQ=WEEKLY;BYDAY=SA,SU", date(2027, 1, 1), date(2027, 1, 9)).len(), 3);
}

#[test]
fn what_is_no_rule_or_needs_a_beginning_is_refused_with_what_to_write() {
    for (rule, told) in [
        ("", "no FREQ"),
        ("BYDAY=SA", "no FREQ"),
        ("FREQ=HOURLY", "FREQ=HOURLY"),
        ("FREQ=WEEKLY", "on which days"),
        ("FREQ=MONTHLY", "on which days"),
        ("FREQ=YEARLY;BYDAY=1MO", "in which months"),
        ("FREQ=WEEKLY;BYDAY=2SA", "numbered"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", "BYMONTHDAY"),
        ("FREQ=WEEKLY;BYDAY=SA;INTERVAL=2", "first day"),
        ("FREQ=WEEKLY;BYDAY=SA;COUNT=2", "first day"),
        ("DTSTART=20270103;FREQ=WEEKLY;BYDAY=SA", "2027-01-03, is none of the days"),
        ("DTSTART=20270230;FREQ=DAILY", "no day"),
        ("DTSTART=2027-01-02;FREQ=DAILY", "no day"),
        ("DTSTART=20270102T220000Z;FREQ=DAILY", "no day"),
        ("DTSTART=20270102;FREQ=DAILY;UNTIL=20270101", "before it begins"),
        ("DTSTART=20270102;FREQ=DAILY;UNTIL=20270103;COUNT=3", "COUNT and UNTIL"),
        ("DTSTART=20270102;FREQ=DAILY;INTERVAL=0", "INTERVAL=0"),
        ("DTSTART=20270102;FREQ=DAILY;COUNT=1001", "COUNT=1001"),
        ("DTSTART=20270102;FREQ=WEEKLY;BYDAY=SA;WKST=SAT", "WKST=SAT"),
        ("FREQ=DAILY;BYWEEKNO=3", "weeks or days of a year"),
        ("FREQ=MONTHLY;BYDAY=6SA", "6SA"),
        ("FREQ=MONTHLY;BYDAY=0SA", "0SA"),
        ("FREQ=MONTHLY;BYDAY=SATURDAY", "SATURDAY"),
        ("FREQ=MONTHLY;BYDAY=\u{e9}", "no day"),
        ("FREQ=MONTHLY;BYMONTHDAY=32", "32"),
        ("FREQ=MONTHLY;BYMONTHDAY=-128", "-128"),
        ("FREQ=MONTHLY;BYDAY=1MO;BYDAY=2MO", "twice"),
        ("FREQ=WEEKLY;BYDAY=SA;BYSETPOS=1", "BYSETPOS"),
        ("FREQ=DAILY;BYHOUR=3", "a time of the day"),
        ("every second saturday", "no part"),
    ] {
        let error = Recurrence::parse(rule).unwrap_err();
        assert!(error.message.contains(told), "{rule}: {error}");
        assert!(!error.hint.is_empty());
    }
}

#[test]
fn a_rule_is_kept_as_its_text() {
    let rule = Recurrence::parse("freq=monthly;byday=2sa").unwrap();
    let json = serde_json::to_string(&rule).unwrap();
    assert_eq!(json, "\"FREQ=MONTHLY;BYDAY=2SA\"");
    assert_eq!(serde_json::from_str::<Recurrence>(&json).unwrap(), rule);
    assert!(serde_json::from_str::<Recurrence>("\"FREQ=NEVER\"").is_err());
}

/// Twelve years by every rule of a small grammar, as Python's dateutil reads RFC 5545.
#[test]
fn hundreds_of_rules_give_the_days_that_dateutil_gives() {
    let (from, to) = (date(2024, 1, 1), date(2036, 1, 1));
    let mut rules = Vec::new();
    let months = ["", ";BYMONTH=2", ";BYMONTH=1,6,12"];
    let days = ["SA", "2SA", "-1FR", "MO,TU,WE,TH,FR", "1MO,3MO", "5SU", "-5TU,2WE", "SA,SU"];
    for month in months {
        for day in days {
            for position in ["", ";BYSETPOS=1", ";BYSETPOS=-1", ";BYSETPOS=2,-2"] {
                rules.push(format!("FREQ=MONTHLY{month};BYDAY={day}{position}"));
            }
            if !day.contains(|c: char| c.is_ascii_digit()) {
                rules.push(format!("FREQ=WEEKLY{month};BYDAY={day}"));
                rules.push(format!("FREQ=DAILY{month};BYDAY={day}"));
                rules.push(format!("FREQ=MONTHLY{month};BYDAY={day};BYMONTHDAY=13,-1"));
            }
            if !month.is_empty() {
                rules.push(format!("FREQ=YEARLY{month};BYDAY={day}"));
            }
        }
        for month_day in ["1", "31", "-1", "29,30", "-31,15"] {
            rules.push(format!("FREQ=MONTHLY{month};BYMONTHDAY={month_day}"));
        }
    }
    as_dateutil_reads(&rules, from, to);
}

/// The same of rules that count from a first day.
#[test]
fn rules_that_count_from_a_first_day_give_the_days_that_dateutil_gives() {
    let (from, to) = (date(2024, 1, 1), date(2036, 1, 1));
    let mut rules = Vec::new();
    for rule in [
        "FREQ=DAILY",
        "FREQ=DAILY;BYDAY=MO,TU,WE,TH,FR",
        "FREQ=WEEKLY;BYDAY=SA",
        "FREQ=WEEKLY;BYDAY=MO,SU",
        "FREQ=WEEKLY;BYDAY=SU,SA,TU;BYMONTH=1,2,7",
        "FREQ=MONTHLY;BYDAY=2SA",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
        "FREQ=MONTHLY;BYMONTHDAY=31",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=-1",
        "FREQ=YEARLY;BYMONTH=3,9;BYDAY=-1SU",
    ] {
        let days = days_of(rule, date(2024, 2, 26), date(2026, 12, 31));
        for first in days.iter().step_by(1 + days.len() / 5) {
            let start = format!("DTSTART={};{rule}", first.strftime("%Y%m%d"));
            for interval in ["", ";INTERVAL=2", ";INTERVAL=3", ";INTERVAL=17"] {
                for end in ["", ";COUNT=1", ";COUNT=7", ";UNTIL=20300615"] {
                    for week in ["", ";WKST=SU", ";WKST=WE"] {
                        rules.push(format!("{start}{interval}{end}{week}"));
                    }
                }
            }
        }
    }
    as_dateutil_reads(&rules, from, to);
}

fn as_dateutil_reads(rules: &[String], from: Date, to: Date) {
    const ORACLE: &str = "import sys, datetime
from dateutil.rrule import rrulestr
end = datetime.datetime(2036, 1, 1)
for line in sys.argv[1:]:
    start, rule = line.split(';', 1) if line.startswith('DTSTART') else ('DTSTART=20240101', line)
    rule = rrulestr(rule, dtstart=datetime.datetime.strptime(start[8:], '%Y%m%d'))
    print(' '.join(d.date().isoformat() for d in rule.between(datetime.datetime(2023, 12, 31), end, inc=True)))
";
    let Ok(said) = Command::new("python3").args(["-c", ORACLE]).args(rules).output() else {
        println!("skipped: no python3 here");
        return;
    };
    if !said.status.success() {
        println!("skipped: no dateutil here: {}", String::from_utf8_lossy(&said.stderr));
        return;
    }
    let said = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.lines().count(), rules.len());
    for (rule, wanted) in rules.iter().zip(said.lines()) {
        let found = days_of(rule, from, to);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), wanted, "{rule}");
    }
    println!("{} rules, as dateutil reads them", rules.len());
}
