//! Random numbers that a seed repeats on every machine and version (SplitMix64).

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed`; `part` tells streams of one seed apart.
    pub fn new(seed: u64, part: u64) -> Self {
        let mut random = Self(seed ^ part.wrapping_mul(0xA076_1D64_78BD_642F));
        random.number();
        random
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number under `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// True `percent` times out of 100.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// `count` words of prose.
    pub fn words(&mut self, count: u64) -> String {
        const WORDS: [&str; 24] = [
            "journal", "segment", "writer", "reader", "catalog", "token", "budget", "query",
            "branch", "deploy", "cluster", "memory", "agent", "review", "cache", "index", "block",
            "digest", "lock", "retry", "timeout", "schema", "parser", "release",
        ];
        let mut text = String::new();
        for _ in 0..count {
            let index = usize::try_from(self.below(WORDS.len() as u64)).unwrap_or(0);
            text.push_str(WORDS.get(index).copied().unwrap_or("word"));
            text.push(' ');
        }
        text
    }
}

/// A word of lower-case letters only, different for each number, so that no tokenizer takes it
/// apart.
pub fn word_of(mut number: u64) -> String {
    let mut word = String::from("zq");
    loop {
        word.push(char::from(b'a' + u8::try_from(number % 26).unwrap_or(0)));
        number /= 26;
        if number == 0 {
            return word + "x";
        }
    }
}
