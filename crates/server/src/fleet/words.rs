//! Texts that come again and again, kept once and numbered.

use std::collections::HashMap;
use std::sync::Arc;

/// Texts by number, and numbers by text. A number stays for as long as the program runs.
#[derive(Debug, Default)]
pub(crate) struct Words {
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Words {
    /// The number of a text, which may be a new one.
    pub(crate) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let text: Arc<str> = text.into();
        // Four thousand million texts do not fit in memory.
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    /// The number of a text, if it has one.
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    /// The text of a number that was given.
    pub(crate) fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", |text| text)
    }

    /// All texts with their numbers.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..).zip(self.texts.iter().map(|text| &**text))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }
}
