//! Journals that do not read back.

use super::kills::was_killed;
use super::{Extent, Stand};
use crate::repo::AcmeWeb;
use crate::{LabError, LabHost};

/// What was written down of a change does not read back when it is taken up again.
pub(super) fn damaged(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    // A flipped bit at the end, in the middle, at the beginning; and a tail that was torn off.
    const DAMAGES: [(&str, &str); 4] = [
        ("last byte flipped", "-3"),
        ("middle flipped", "middle"),
        ("first record flipped", "40"),
        ("tail torn off", "tear"),
    ];
    for (what, place) in extent.of(&DAMAGES, 2) {
        let to = stand.offer(AcmeWeb::Good)?;
        stand.run(&to, what, |s| {
            let killed = s.patch(&[], &[("FETTLE_CRASH_AT", "activate:before")])?;
            let before = s.status()?;
            damage(s.host(), place)?;
            // It reads back as another one, or as one that is shorter.
            Ok(was_killed(&killed) && s.status()?["last"] != before["last"])
        })?;
    }
    Ok(())
}

fn damage(host: &LabHost, place: &str) -> Result<(), LabError> {
    // The file is longer than what is in it: its room is allocated ahead, as zeros.
    let script = format!(
        "my ($f) = sort {{ -M $a <=> -M $b }} glob '/var/lib/fettle-agent/transactions/*/journal'; my $p = '{place}'; \
         open(my $h, '+<', $f) or die; local $/; my $all = <$h>; (my $text = $all) =~ s/\\0+$//; my $s = length $text; \
         if ($p eq 'tear') {{ truncate($h, $s - 9) or die; exit }} \
         my $at = $p eq 'middle' ? int($s / 2) : $p < 0 ? $s + $p : $p; \
         seek($h, $at, 0); print $h chr(ord(substr($text, $at, 1)) ^ 4);"
    );
    host.exec(&["perl", "-e", &script])?.ok().map(drop)
}
