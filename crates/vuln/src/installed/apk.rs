//! apk's database, `lib/apk/db/installed` (apk-db(5)): records of `X:value` lines, apart by an empty line. `P` is the package,
//! `V` its version, `A` its architecture, `o` the source it was built from.

use super::Installed;
use fettle_core::inventory::Package;

/// Reads the database. Total: lines and records that make no sense are skipped and counted.
pub fn parse(bytes: &[u8]) -> Installed {
    let mut installed = Installed::default();
    let mut record = Record::default();
    for line in bytes.split(|b| *b == b'\n') {
        match line {
            [] => std::mem::take(&mut record).end(&mut installed),
            [field, b':', value @ ..] => record.field(*field, value),
            _ => {}
        }
    }
    record.end(&mut installed);
    installed.sorted()
}

#[derive(Default)]
struct Record<'a> {
    begun: bool,
    name: &'a [u8],
    version: &'a [u8],
    architecture: &'a [u8],
    origin: &'a [u8],
}

impl<'a> Record<'a> {
    fn field(&mut self, field: u8, value: &'a [u8]) {
        self.begun = true;
        match field {
            b'P' => self.name = value,
            b'V' => self.version = value,
            b'A' => self.architecture = value,
            b'o' => self.origin = value,
            _ => {}
        }
    }

    fn end(self, installed: &mut Installed) {
        if !self.begun {
            return;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (name, version) = (text(self.name), text(self.version));
        installed.take(Package {
            source: if self.origin.is_empty() { name.clone() } else { text(self.origin) },
            source_version: version.clone(),
            architecture: text(self.architecture),
            healthy: true,
            module: String::new(),
            name,
            version,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_those_without_a_name_or_version_counted() {
        let installed = parse(
            b"C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nF:lib\nR:ld.so\nZ:Q1y=\n\nP:libcrypto3\nV:3.1.4-r5\nA:x86_64\no:openssl\n\n\
              P:\nV:1\n\nP:no version\n\nP:plain\nV:1\nodd line\n:\n",
        );
        let told: Vec<(&str, &str, &str)> = installed
            .packages
            .iter()
            .map(|p| (p.name.as_str(), p.version.as_str(), p.source.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("libcrypto3", "3.1.4-r5", "openssl"),
                ("musl", "1.2.4-r2", "musl"),
                ("plain", "1", "plain")
            ]
        );
        assert_eq!(installed.left_out, 2);
        assert_eq!(parse(b""), Installed::default());
    }
}
