"""The built-in cards are sound, and ranking puts what fits first."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from prompt2model.catalogue import (
    POPULARITY_BOUND,
    beyond_limits,
    builtin_datasets,
    builtin_models,
    covers,
    has_gpu,
    merge,
    popularity,
    rank_datasets,
    rank_models,
)
from prompt2model.config import RetrieveConfig
from prompt2model.matching import Index, words_of
from prompt2model.records import DataCard, ModelCard, Ranked, TaskSpec

DEFAULT = RetrieveConfig()


def task(instruction: str, labels: Sequence[str] = (), language: str = "en") -> TaskSpec:
    kind = "classification" if labels else "generation"
    return TaskSpec(instruction=instruction, kind=kind, labels=tuple(labels), language=language)


def model(id: str, description: str = "A base model.", **facts: Any) -> ModelCard:
    usual: dict[str, Any] = {"architecture": "decoder", "parameters": 135_000_000, "size_bytes": 270_000_000}
    return ModelCard(id=id, description=description, licence="mit", **(usual | facts))


def data(id: str, description: str, **facts: Any) -> DataCard:
    return DataCard(id=id, description=description, **({"task": "text-classification"} | facts))


def models_for(wanted: TaskSpec, cards: Sequence[ModelCard] = (), config: RetrieveConfig = DEFAULT, **how: Any) -> Any:
    """The ranking on a machine without a GPU where nothing is at hand, whatever this one has."""
    how = {"at_hand": lambda id: False, "gpu": False} | how
    return rank_models(wanted, cards or builtin_models(), config, **how)


def ids(ranked: Sequence[Ranked], most: int = 3) -> list[str]:
    return [one.card.id for one in ranked[:most]]


# The cards


def test_there_are_at_least_seventy_models_and_a_hundred_and_seventy_data_sets() -> None:
    assert len(builtin_models()) >= 70
    assert len(builtin_datasets()) >= 170


def test_every_model_and_every_configuration_of_a_data_set_is_listed_once() -> None:
    models = Counter(card.id.lower() for card in builtin_models())
    datasets = Counter((card.id.lower(), card.config) for card in builtin_datasets())
    assert max(models.values()) == max(datasets.values()) == 1


def test_every_card_is_named_as_the_hub_names_it_and_described_in_a_sentence() -> None:
    for card in (*builtin_models(), *builtin_datasets()):
        assert card.id.count("/") == 1, card.id
        assert card.description.endswith((".", "?"))
        assert 25 < len(card.description) < 250, card.id
        assert card.licence == card.licence.lower()
        assert card.languages or "code" in card.tags
        assert card.tags


def test_every_model_has_a_size_that_agrees_with_its_parameters() -> None:
    for card in builtin_models():
        assert 10_000_000 <= card.parameters < 5_000_000_000, card.id
        assert 1.9 <= card.size_bytes / card.parameters <= 4.2, card.id


def test_a_data_set_names_both_its_columns_or_neither_is_taken_for_a_pair() -> None:
    paired = [card for card in builtin_datasets() if card.input_columns and card.output_column]
    assert len(paired) > 0.85 * len(builtin_datasets())
    assert all(card.output_column not in card.input_columns or card.task == "translation" for card in paired)


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("text-classification", 100),
        ("text2text-generation", 60),
        ("question-answering", 25),
        ("summarization", 20),
        ("multiple-choice", 15),
        ("translation", 12),
        ("token-classification", 10),
        ("table-to-text", 5),
        ("text-generation", 15),
    ],
)
def test_every_kind_of_task_has_data_sets(kind: str, least: int) -> None:
    assert sum(card.task == kind for card in builtin_datasets()) >= least


def test_both_architectures_and_many_languages_have_small_models() -> None:
    small = [card for card in builtin_models() if not beyond_limits(card, DEFAULT)]
    assert {card.architecture for card in small} == {"decoder", "encoder-decoder"}
    for language in ("en", "de", "fr", "es", "zh", "ja", "ko", "ru", "ar", "hi", "sw", "th", "tr", "vi"):
        assert sum(covers(card, language) for card in small) >= 5, language


# What is ranked first


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (task("Classify movie reviews as positive or negative.", ["positive", "negative"]), "stanfordnlp/sst2"),
        (task("Decide whether a text message is spam.", ["spam", "ham"]), "ucirvine/sms_spam"),
        (task("Find the intent of a customer's question to the bank.", ["card_lost", "other"]), "PolyAI/banking77"),
        (task("Which emotion does the message express?", ["joy", "anger", "fear"]), "dair-ai/emotion"),
        (task("Detect hate speech in tweets.", ["hate", "none"]), "cardiffnlp/tweet_eval"),
        (task("Does the premise entail the hypothesis?", ["entailment", "neutral"]), "nyu-mll/multi_nli"),
        (task("Is the claim for or against the debate topic?", ["for", "against"]), "ibm-research/claim_stance"),
        (task("Answer the question using the passage from Wikipedia."), "rajpurkar/squad"),
        (task("Summarize a news article in one sentence."), "EdinburghNLP/xsum"),
        (task("Translate English sentences into German."), "wmt/wmt14"),
        (task("Turn a question about a database into an SQL query."), "xlangai/spider"),
        (task("Solve grade school math word problems step by step."), "openai/gsm8k"),
        (task("Correct the grammar of the sentence."), "jhu-clsp/jfleg"),
        (task("Describe a restaurant from its attributes, such as name, food and area."), "GEM/e2e_nlg"),
        (task("Rewrite the disfluent spoken question as a clean one."), "google-research-datasets/disfl_qa"),
        (task("Extract people, places and organisations from a news sentence."), "eriktks/conll2003"),
        (task("Write a commit message for a diff."), "JetBrains-Research/commit-chronicle"),
        (task("Write a Python snippet for a Japanese request.", language="ja"), "neulab/mconala"),
        (task("Klassifiziere Zeitungsartikel nach Thema.", ["Sport"], language="de"), "community-datasets/gnad10"),
    ],
)
def test_a_fitting_data_set_is_among_the_first_three(wanted: TaskSpec, expected: str) -> None:
    assert expected in ids(rank_datasets(wanted, builtin_datasets(), DEFAULT))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (task("Classify movie reviews as positive or negative.", ["positive", "negative"]), "google/flan-t5-small"),
        (task("Sort support mails.", ["bug", "billing"]), "HuggingFaceTB/SmolLM2-135M-Instruct"),
        (task("Turn a question about a database into an SQL query."), "Qwen/Qwen2.5-Coder-0.5B-Instruct"),
        (task("Write a Python snippet for a Japanese request.", language="ja"), "Qwen/Qwen2.5-Coder-0.5B-Instruct"),
        (task("Translate English sentences into German."), "Helsinki-NLP/opus-mt-en-de"),
        (task("Translate German sentences into English.", language="de"), "Helsinki-NLP/opus-mt-de-en"),
        (task("Summarize a news article in one sentence."), "facebook/bart-large-xsum"),
        (task("Correct the grammar of the sentence."), "vennify/t5-base-grammar-correction"),
        (task("Answer the question using the passage."), "allenai/unifiedqa-t5-base"),
        (task("Paraphrase the question."), "humarin/chatgpt_paraphraser_on_T5_base"),
        (task("Describe a restaurant from its attributes."), "HuggingFaceTB/SmolLM2-135M-Instruct"),
        (task("Write a friendly poem about the given subject."), "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ],
)
def test_a_fitting_model_is_among_the_first_three(wanted: TaskSpec, expected: str) -> None:
    assert expected in ids(models_for(wanted))


def test_a_classification_does_not_start_from_a_model_made_for_translation_or_code() -> None:
    ranked = models_for(task("Sort messages by topic.", ["sport", "politics"]))
    made_for = {tag for one in ranked[:10] for tag in one.card.tags if "general" not in one.card.tags}
    assert not made_for & {"translation", "code", "summarization"}


def test_a_small_model_is_preferred_without_a_gpu_and_a_larger_one_with_it() -> None:
    wanted, cards = task("Answer politely."), [model("a/small"), model("a/large", parameters=600_000_000)]
    assert ids(models_for(wanted, cards)) == ["a/small", "a/large"]
    assert ids(models_for(wanted, cards, gpu=True)) == ["a/large", "a/small"]


def test_a_machine_whose_gpus_are_hidden_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not has_gpu()


def test_a_hypothetical_card_brings_up_what_the_instruction_does_not_name() -> None:
    wanted = task("Say what the guest thinks of the dinner.", ["pleased", "displeased"])
    card = "Restaurant reviews from Yelp with a sentiment label, positive or negative. Tags: sentiment, yelp, reviews."
    plain = rank_datasets(wanted, builtin_datasets(), DEFAULT)
    helped = rank_datasets(wanted, builtin_datasets(), DEFAULT, card)
    assert any("yelp" in id.lower() for id in ids(helped))
    assert not any("yelp" in id.lower() for id in ids(plain))


# Popularity


def test_an_exact_fit_with_five_downloads_beats_a_misfit_with_five_million() -> None:
    exact = data("someone/tickets", "Support mails labelled bug, billing or other.", downloads=5)
    misfit = data("famous/reviews", "Movie reviews labelled positive or negative.", downloads=5_000_000)
    wanted = task("Sort support mails into bug, billing or other.", ["bug", "billing", "other"])
    assert ids(rank_datasets(wanted, [misfit, exact], DEFAULT)) == ["someone/tickets", "famous/reviews"]


def test_an_exactly_fitting_model_with_five_downloads_beats_a_misfit_with_five_million() -> None:
    exact = model("someone/tagger", "Fine-tuned to resolve temporal expressions to dates.", downloads=5)
    misfit = model("famous/translator", "Translates English.", tags=("translation",), downloads=5_000_000)
    wanted = task("Resolve the temporal expressions of a sentence to dates.")
    assert ids(models_for(wanted, [misfit, exact])) == ["someone/tagger", "famous/translator"]


def test_popularity_breaks_a_tie() -> None:
    first, second = (data(id, "Mails labelled as spam.", downloads=n) for id, n in (("x/few", 3), ("x/many", 30_000)))
    assert ids(rank_datasets(task("Is the mail spam?", ["yes", "no"]), [first, second], DEFAULT)) == ["x/many", "x/few"]


def test_popularity_never_adds_more_than_its_bound() -> None:
    assert POPULARITY_BOUND == 0.1
    assert popularity(0) == 0
    assert popularity(10**9) == 1
    assert all(popularity(low) < popularity(high) for low, high in pairwise([0, 5, 500, 50_000, 5_000_000]))


@pytest.mark.parametrize("wanted", [task("Summarize the news."), task("Is the mail spam?", ["spam", "ham"])])
def test_a_fit_a_tenth_better_ranks_above_whatever_the_downloads(wanted: TaskSpec) -> None:
    """The law of the docstring over all built-in cards: fits are the scores at zero downloads."""
    bare = [card.model_copy(update={"downloads": 0}) for card in builtin_datasets()]
    fits = [(one.card, one.score) for one in rank_datasets(wanted, bare, DEFAULT)]
    adverse = [card.model_copy(update={"downloads": 10**7 if fit < 0.5 else 5}) for card, fit in fits]
    places = {
        (one.card.id, one.card.config): place for place, one in enumerate(rank_datasets(wanted, adverse, DEFAULT))
    }
    for better, high in fits[:40]:
        for worse, low in fits:
            if high > 1.1 * low + 0.001 and better.gated == worse.gated:
                assert places[better.id, better.config] < places[worse.id, worse.config]


# Limits, order, reasons


@pytest.mark.parametrize(
    ("card", "config", "reason"),
    [
        (model("a/b", parameters=700_000_000), DEFAULT, "more than 600M parameters"),
        (model("a/b", parameters=4_000_000), DEFAULT, "fewer than 10M parameters"),
        (model("a/b", size_bytes=3_000_000_000), DEFAULT, "larger than 2 GB"),
        (model("a/b"), RetrieveConfig(licences=("apache-2.0",)), "licence not among apache-2.0"),
        (model("a/b"), RetrieveConfig(architecture="encoder-decoder"), "not encoder-decoder"),
        (model("a/b", tags=("awq",)), DEFAULT, "quantised"),
        (model("a/b", tags=("custom_code",)), DEFAULT, "needs code of its own"),
        (model("a/b"), RetrieveConfig(licences=("mit",), architecture="decoder"), ""),
    ],
)
def test_a_model_beyond_a_limit_is_left_out_and_the_reason_is_said(
    card: ModelCard, config: RetrieveConfig, reason: str
) -> None:
    assert beyond_limits(card, config) == reason
    assert bool(models_for(task("Answer."), [card], config)) is not bool(reason)


def test_a_data_set_of_another_licence_is_left_out() -> None:
    cards = [data("a/free", "Spam mails.", licence="mit"), data("a/unknown", "Spam mails.")]
    assert ids(rank_datasets(task("Is it spam?"), cards, RetrieveConfig(licences=("mit",)))) == ["a/free"]


def test_models_and_data_sets_that_do_not_cover_the_language_are_left_out() -> None:
    german = task("Ordne die Nachricht ein.", ["a", "b"], language="de")
    models, datasets = models_for(german), rank_datasets(german, builtin_datasets(), DEFAULT)
    assert all({"de", "multilingual"} & set(one.card.languages) for one in (*models, *datasets) if one.card.languages)
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" not in ids(models, 500)
    assert "stanfordnlp/sst2" not in ids(datasets, 500)


def test_a_card_that_does_not_name_its_languages_is_kept() -> None:
    assert ids(models_for(task("Antworte.", language="de"), [model("a/b", languages=())])) == ["a/b"]


def test_gated_models_come_last() -> None:
    gated = [one.card.gated for one in models_for(task("Sort mails.", ["a", "b"]))]
    assert any(gated)
    assert gated == sorted(gated)


def test_ties_are_broken_by_name_whatever_the_order_of_the_cards() -> None:
    cards = [model(f"owner/{letter}") for letter in "cab"]
    assert (
        ids(models_for(task("Answer."), cards))
        == ids(models_for(task("Answer."), cards[::-1]))
        == [
            "owner/a",
            "owner/b",
            "owner/c",
        ]
    )


def test_every_ranked_card_says_why_in_plain_words() -> None:
    wanted = task("Is the text message spam?", ["spam", "ham"])
    for one in (*models_for(wanted), *rank_datasets(wanted, builtin_datasets(), DEFAULT)):
        assert len(one.reasons) >= 3
        assert all(reason.strip() for reason in one.reasons)
    best = rank_datasets(wanted, builtin_datasets(), DEFAULT)[0]
    assert any("spam" in reason for reason in best.reasons)
    assert any("licence" in reason for reason in best.reasons)


def test_a_model_says_its_size_and_whether_a_cpu_can_train_it() -> None:
    small, large = models_for(task("Answer."), [model("x/small"), model("x/large", parameters=500_000_000)])
    assert "135M parameters, 270 MB (small enough for a CPU)" in small.reasons
    assert "500M parameters, 270 MB (slow on a CPU)" in large.reasons


def test_what_is_at_hand_is_marked_and_does_not_change_the_order() -> None:
    wanted = task("Sort mails.", ["a", "b"])
    near = models_for(wanted, at_hand=lambda id: id == "openai-community/gpt2")
    assert [one.card.id for one in near if one.at_hand] == ["openai-community/gpt2"]
    assert ids(near, 50) == ids(models_for(wanted), 50)


def test_no_cards_give_no_ranking_and_an_instruction_without_words_gives_one() -> None:
    assert rank_datasets(task("Answer."), [], DEFAULT) == []
    for empty in ("", "…"):
        assert len(rank_datasets(task(empty), builtin_datasets(), DEFAULT)) > 100


def test_a_live_card_gives_its_downloads_and_ours_the_facts() -> None:
    ours, theirs = model("a/b", "Ours."), model("a/b", "Theirs.", downloads=77)
    merged = merge([ours], [theirs, model("c/d", "Fresh.")])
    assert [(card.id, card.description, card.downloads) for card in merged] == [
        ("a/b", "Ours.", 77),
        ("c/d", "Fresh.", 0),
    ]


def test_ranking_all_built_in_cards_takes_less_than_half_a_second() -> None:
    wanted = task("Is the mail spam?", ["spam", "ham"])
    models_for(wanted)
    began = time.process_time()
    models_for(wanted)
    rank_datasets(wanted, builtin_datasets(), DEFAULT)
    assert time.process_time() - began < 0.5


# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The movie Reviews", ["movie", "review"]),
        ("text-to-SQL queries", ["text", "sql", "query"]),
        ("FlanT5 codeSearch", ["flan", "t5", "code", "search"]),
        ("boxes, classes, news, analysis", ["box", "class", "news", "analysis"]),
        ("Überprüfe die Ärzte", ["überprüfe", "die", "ärzte"]),
        ("情感 分析", ["情感", "分析"]),
        ("", []),
    ],
)
def test_words_are_split_lowered_and_made_singular(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


def test_one_shared_word_is_no_full_match_and_many_are() -> None:
    index = Index(["spam mails in a mailbox", "novels", "poems", "letters"])
    weak, full = index.match("write spam limericks nightly")[0], index.match("spam mails mailbox")[0]
    assert 0 < weak < 0.5
    assert full > 0.7


def test_the_formula_is_that_of_bm25() -> None:
    """Lucene's form with k1 = 1.2 and b = 0.75, computed by hand: three texts of two words on average."""
    index = Index(["spam spam mail", "mail", "novel poem"])
    spam = math.log(4 / 1) * 2 * 2.2 / (1.2 * (0.25 + 0.75 * 3 / 2) + 2)
    hoped = math.log(4) + math.log(4 / 2)
    assert index.match("spam")[0] == pytest.approx(1.0)
    assert index.match("mail spam unheard")[0] == pytest.approx(
        (spam + math.log(4 / 2) * 2.2 / (1.2 * (0.25 + 0.75 * 3 / 2) + 1)) / (hoped + math.log(4))
    )


def test_shared_words_are_named_the_rarest_first() -> None:
    index = Index(["spam mail", "mail", "mail"])
    assert index.shared("Is this mail spam?") == [["spam", "mail"], ["mail"], ["mail"]]
