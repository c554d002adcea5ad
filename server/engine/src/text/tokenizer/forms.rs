//! Irregular English forms, which a suffix stemmer cannot lead back to their base: `went` and `go`
//! are one word to somebody who searches. Forms that mostly stand for another word (`rose`,
//! `ground`, `leaves`, `lives`) are left alone.

/// The base of an irregular form, or `None` for every other word.
pub(super) fn base_form(word: &str) -> Option<&'static str> {
    FORMS
        .binary_search_by_key(&word, |&(form, _)| form)
        .ok()
        .and_then(|at| FORMS.get(at))
        .map(|&(_, base)| base)
}

/// Form and base, sorted by form.
#[rustfmt::skip]
const FORMS: &[(&str, &str)] = &[
    ("am", "be"), ("analyses", "analysis"), ("are", "be"), ("arisen", "arise"),
    ("arose", "arise"), ("ate", "eat"), ("awoke", "awake"), ("awoken", "awake"), ("axes", "axis"),
    ("beaten", "beat"), ("became", "become"), ("been", "be"), ("began", "begin"),
    ("begun", "begin"), ("being", "be"), ("bent", "bend"), ("best", "good"), ("better", "good"),
    ("bitten", "bite"), ("bled", "bleed"), ("blew", "blow"), ("blown", "blow"), ("bore", "bear"),
    ("borne", "bear"), ("bought", "buy"), ("bred", "breed"), ("broke", "break"),
    ("broken", "break"), ("brought", "bring"), ("built", "build"), ("burnt", "burn"),
    ("came", "come"), ("caught", "catch"), ("children", "child"), ("chose", "choose"),
    ("chosen", "choose"), ("clung", "cling"), ("crept", "creep"), ("crises", "crisis"),
    ("criteria", "criterion"), ("dealt", "deal"), ("did", "do"), ("does", "do"), ("done", "do"),
    ("drank", "drink"), ("drawn", "draw"), ("dreamt", "dream"), ("drew", "draw"),
    ("driven", "drive"), ("drove", "drive"), ("drunk", "drink"), ("dug", "dig"), ("eaten", "eat"),
    ("fallen", "fall"), ("farther", "far"), ("fed", "feed"), ("feet", "foot"), ("fell", "fall"),
    ("felt", "feel"), ("fled", "flee"), ("flew", "fly"), ("flies", "fly"), ("flown", "fly"),
    ("forbade", "forbid"), ("forbidden", "forbid"), ("forgave", "forgive"),
    ("forgiven", "forgive"), ("forgot", "forget"), ("forgotten", "forget"), ("fought", "fight"),
    ("found", "find"), ("froze", "freeze"), ("frozen", "freeze"), ("further", "far"),
    ("furthest", "far"), ("gave", "give"), ("geese", "goose"), ("given", "give"), ("goes", "go"),
    ("gone", "go"), ("got", "get"), ("gotten", "get"), ("grew", "grow"), ("grown", "grow"),
    ("had", "have"), ("halves", "half"), ("has", "have"), ("heard", "hear"), ("held", "hold"),
    ("hid", "hide"), ("hidden", "hide"), ("hung", "hang"), ("hypotheses", "hypothesis"),
    ("indices", "index"), ("is", "be"), ("kept", "keep"), ("knelt", "kneel"), ("knew", "know"),
    ("knives", "knife"), ("known", "know"), ("laid", "lay"), ("lain", "lie"), ("leant", "lean"),
    ("leapt", "leap"), ("learnt", "learn"), ("led", "lead"), ("left", "leave"), ("lent", "lend"),
    ("lit", "light"), ("loaves", "loaf"), ("lost", "lose"), ("made", "make"),
    ("matrices", "matrix"), ("meant", "mean"), ("men", "man"), ("met", "meet"), ("mice", "mouse"),
    ("mistaken", "mistake"), ("mistook", "mistake"), ("overcame", "overcome"), ("paid", "pay"),
    ("people", "person"), ("phenomena", "phenomenon"), ("proven", "prove"), ("ran", "run"),
    ("rang", "ring"), ("ridden", "ride"), ("risen", "rise"), ("rode", "ride"), ("rung", "ring"),
    ("said", "say"), ("sang", "sing"), ("sank", "sink"), ("sat", "sit"), ("saw", "see"),
    ("seen", "see"), ("selves", "self"), ("sent", "send"), ("sewn", "sew"), ("shaken", "shake"),
    ("shelves", "shelf"), ("shone", "shine"), ("shook", "shake"), ("shown", "show"),
    ("shrank", "shrink"), ("shrunk", "shrink"), ("slept", "sleep"), ("slid", "slide"),
    ("sold", "sell"), ("sought", "seek"), ("spent", "spend"), ("spoke", "speak"),
    ("spoken", "speak"), ("sprang", "spring"), ("sprung", "spring"), ("spun", "spin"),
    ("stank", "stink"), ("stole", "steal"), ("stolen", "steal"), ("stood", "stand"),
    ("stricken", "strike"), ("striven", "strive"), ("strove", "strive"), ("struck", "strike"),
    ("stuck", "stick"), ("stung", "sting"), ("stunk", "stink"), ("sung", "sing"),
    ("sunk", "sink"), ("swam", "swim"), ("swept", "sweep"), ("swollen", "swell"),
    ("swore", "swear"), ("sworn", "swear"), ("swum", "swim"), ("swung", "swing"),
    ("taken", "take"), ("taught", "teach"), ("teeth", "tooth"), ("theses", "thesis"),
    ("thieves", "thief"), ("thought", "think"), ("threw", "throw"), ("thrown", "throw"),
    ("told", "tell"), ("took", "take"), ("tore", "tear"), ("torn", "tear"),
    ("undergone", "undergo"), ("understood", "understand"), ("undertaken", "undertake"),
    ("undertook", "undertake"), ("underwent", "undergo"), ("undid", "undo"), ("undone", "undo"),
    ("vertices", "vertex"), ("was", "be"), ("went", "go"), ("wept", "weep"), ("were", "be"),
    ("withdrawn", "withdraw"), ("withdrew", "withdraw"), ("wives", "wife"), ("woke", "wake"),
    ("woken", "wake"), ("wolves", "wolf"), ("women", "woman"), ("won", "win"), ("wore", "wear"),
    ("worn", "wear"), ("worse", "bad"), ("worst", "bad"), ("wound", "wind"), ("wove", "weave"),
    ("woven", "weave"), ("written", "write"), ("wrote", "write"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_no_chains() {
        assert!(FORMS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (form, base) in FORMS {
            assert_ne!(form, base);
            assert_eq!(base_form(base), None, "{form} -> {base} -> ...");
        }
    }
}
