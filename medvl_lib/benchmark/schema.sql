-- The benchmark store: tables as written by medvl_lib/benchmark and medvl_lib/reviews (row models in their tables.py and in promotion.py; a
-- test compares columns and comments), and views named for the question that they answer. Units in brackets. It is rebuilt, never altered.

create table evaluations (
    evaluation_id varchar not null,
    line varchar not null,
    variant varchar not null,
    model varchar,
    weights_data_version varchar,
    precision varchar,
    num_parameters bigint,
    num_quantized_parameters bigint,
    predictions_fingerprint varchar not null,
    metric_versions map(varchar, varchar) not null,
    evaluated_at varchar not null,
    run_id varchar,
    is_current boolean not null
);
comment on table evaluations is 'Which model stood behind a variant of an evaluation. Key: (evaluation_id, variant).';
comment on column evaluations.evaluation_id is 'the evaluation: one set of answers, scored by one version of the metrics';
comment on column evaluations.line is 'the line that was evaluated';
comment on column evaluations.variant is 'who answered';
comment on column evaluations.model is 'hub id or name, and the commit or the hash of the contents; null for a floor';
comment on column evaluations.weights_data_version is 'hash of the weights: base, and adapter where there is one; null for a floor';
comment on column evaluations.precision is 'what the weights really were: float32, bfloat16, nf4+float32, mlx-affine4+bfloat16, ...; null for a floor';
comment on column evaluations.num_parameters is 'parameters, 4-bit ones counted unpacked; null for a floor';
comment on column evaluations.num_quantized_parameters is 'of these, parameters held in 4 bit; null for a floor';
comment on column evaluations.predictions_fingerprint is 'directory of the answers below predictions/<line>/';
comment on column evaluations.metric_versions is 'version of each metric';
comment on column evaluations.evaluated_at is 'when the answers were complete, ISO 8601 in UTC';
comment on column evaluations.run_id is 'Dagster''s run that wrote the benchmark; null outside a run';
comment on column evaluations.is_current is 'whether its benchmark directory is the current one of its line';

create table environments (
    evaluation_id varchar not null,
    line varchar not null,
    name varchar not null,
    version varchar not null
);
comment on table environments is 'What an evaluation ran on. Key: (evaluation_id, name).';
comment on column environments.evaluation_id is 'the evaluation: one set of answers, scored by one version of the metrics';
comment on column environments.line is 'the line that was evaluated';
comment on column environments.name is 'a library, python, or platform';
comment on column environments.version is 'its version, or what the platform calls itself';

create table dataset_counts (
    dataset varchar not null,
    outcome varchar not null,
    reason varchar,
    num_pairs bigint not null,
    evaluation_id varchar not null,
    line varchar not null
);
comment on table dataset_counts is 'The data funnel behind an evaluation. Key: (evaluation_id, dataset, outcome, reason).';
comment on column dataset_counts.dataset is 'name of the dataset';
comment on column dataset_counts.outcome is 'read from the raw files, then rejected or accepted, then the split; trained_on: what the recipe took of train';
comment on column dataset_counts.reason is 'the rule that rejected rows broke; null for other outcomes';
comment on column dataset_counts.num_pairs is 'how many rows';
comment on column dataset_counts.evaluation_id is 'the evaluation: one set of answers, scored by one version of the metrics';
comment on column dataset_counts.line is 'the line that was evaluated';

create table training_steps (
    step bigint not null,
    epoch double not null,
    loss double not null,
    learning_rate double not null,
    gradient_norm double,
    num_tokens bigint not null,
    tokens_per_second double not null,
    elapsed_seconds double not null,
    validation_loss double,
    evaluation_id varchar not null,
    line varchar not null,
    stage varchar not null,
    objective varchar not null
);
comment on table training_steps is 'A training step of the adapter that was evaluated, of those that it went on from, and of the encoder. Key: (evaluation_id, stage, step).';
comment on column training_steps.step is 'optimizer step, from 1';
comment on column training_steps.epoch is 'epochs done after this step [epochs]';
comment on column training_steps.loss is 'mean over this step''s batch: of a stage that answers the negative log-likelihood of an answer token, of one that matches the sigmoid loss of a picture [nats]';
comment on column training_steps.learning_rate is 'learning rate of this step';
comment on column training_steps.gradient_norm is 'global norm before clipping; null where the engine gives none';
comment on column training_steps.num_tokens is 'tokens of this step without padding, image tokens included [tokens]';
comment on column training_steps.tokens_per_second is 'num_tokens by this step''s wall time [tokens per second]';
comment on column training_steps.elapsed_seconds is 'wall time since training started or resumed [seconds]';
comment on column training_steps.validation_loss is 'the same of held-out pairs, measured after this step; null where none was [nats]';
comment on column training_steps.evaluation_id is 'the evaluation: one set of answers, scored by one version of the metrics';
comment on column training_steps.line is 'the line that was evaluated';
comment on column training_steps.stage is 'the stage that was trained';
comment on column training_steps.objective is 'what it learned: generate (answers), or match (pictures and texts)';

create table scores (
    evaluation_id varchar not null,
    pair_id varchar not null,
    group_id varchar not null,
    dataset varchar not null,
    split varchar not null,
    variant varchar not null,
    condition varchar not null,
    metric varchar not null,
    value double,
    reason varchar,
    answer_state varchar not null,
    statistics double[] not null,
    signature varchar,
    num_masks bigint not null
);
comment on table scores is 'What one metric makes of one answer. Key: (evaluation_id, pair_id, variant, condition, metric).';
comment on column scores.evaluation_id is 'these very answers, the scoring and the metrics'' versions, as one hash';
comment on column scores.pair_id is 'the pair';
comment on column scores.group_id is 'patient or document: the unit of error bars';
comment on column scores.dataset is 'name of the dataset';
comment on column scores.split is 'the split of the pair';
comment on column scores.variant is 'who answered';
comment on column scores.condition is 'as_is, or what was done to the question';
comment on column scores.metric is 'name of the metric';
comment on column scores.value is '0 to 1, of bleu_4 the sentence BLEU of this pair, 0 to 100; null where the scorer had nothing to score against, or where of a corpus metric the pair alone has none: its statistics count';
comment on column scores.reason is 'why there is no value; null where there is one';
comment on column scores.answer_state is 'complete, cut at the token limit, or what the model failed at and scores 0 for: empty, or wrong_language';
comment on column scores.statistics is 'what a corpus metric sums over pairs, of bleu_4 the words of answer and reference, the n-grams of 1 to 4 words that match, and those of the answer, of hallucinated_pair_rate the wrong and all stated values; empty where the result is the mean of the values';
comment on column scores.signature is 'how both texts were cut and counted, of bleu_4 as sacrebleu says it; null where there is one way only';
comment on column scores.num_masks is 'marks of de-identification (___, XXXX) in the answer; bleu_4 and rouge_l do not see them';

create table benchmark_rows (
    evaluation_id varchar not null,
    line varchar not null,
    variant varchar not null,
    condition varchar not null,
    dataset varchar not null,
    split varchar not null,
    slice varchar not null,
    metric varchar not null,
    is_higher_better boolean not null,
    highest double not null,
    signature varchar,
    num_pairs bigint not null,
    num_clusters bigint not null,
    num_unscored bigint not null,
    num_empty bigint not null,
    num_wrong_language bigint not null,
    num_cut bigint not null,
    num_masked bigint not null,
    mean double,
    ci_low double,
    ci_high double,
    interval_note varchar,
    run_id varchar
);
comment on table benchmark_rows is 'A metric with its n and interval. Key: (evaluation_id, line, variant, condition, dataset, split, slice, metric). Where texts of a dataset are cut in several ways (bleu_4 of English and Chinese) there is a row for each language, or for each way where a language has several, and none over all.';
comment on column benchmark_rows.evaluation_id is 'the evaluation: one set of answers, scored by one version of the metrics';
comment on column benchmark_rows.line is 'the line that was evaluated';
comment on column benchmark_rows.variant is 'who answered';
comment on column benchmark_rows.condition is 'as_is, or what was done to the question';
comment on column benchmark_rows.dataset is 'name of the dataset';
comment on column benchmark_rows.split is 'the split of the pairs';
comment on column benchmark_rows.slice is 'all, or the pairs with one label: document_type=lab_results, language=zh; way=... with the signature of a metric; of a metric over several labels one of them over all pairs: label=edema';
comment on column benchmark_rows.metric is 'name of the metric';
comment on column benchmark_rows.is_higher_better is 'whether a larger mean is better';
comment on column benchmark_rows.highest is 'upper end of the metric''s range, which begins at 0: 1, of bleu_4 100';
comment on column benchmark_rows.signature is 'how texts were cut and counted, of bleu_4 as sacrebleu says it; null where there is one way only';
comment on column benchmark_rows.num_pairs is 'pairs behind the mean';
comment on column benchmark_rows.num_clusters is 'patients or documents behind the mean: the unit of the interval';
comment on column benchmark_rows.num_unscored is 'pairs that the scorer could not score; not in the mean';
comment on column benchmark_rows.num_empty is 'empty answers: the model''s failure, in the mean as 0';
comment on column benchmark_rows.num_wrong_language is 'answers in another script than the pair''s language: the model''s failure, in the mean as 0';
comment on column benchmark_rows.num_cut is 'answers cut at the token limit';
comment on column benchmark_rows.num_masked is 'answers that hold a mark of de-identification (___, XXXX)';
comment on column benchmark_rows.mean is 'mean over pairs, 0 to 1; of bleu_4 corpus BLEU over all pairs together, 0 to 100; of hallucinated_pair_rate over all stated values together, null where none was stated';
comment on column benchmark_rows.ci_low is 'lower end of the 95 % interval over clusters; null below six clusters, or without a mean';
comment on column benchmark_rows.ci_high is 'upper end of the 95 % interval over clusters; null below six clusters, or without a mean';
comment on column benchmark_rows.interval_note is 'what has to be known of the interval: too few clusters for one, or no spread between them; null where nothing has';
comment on column benchmark_rows.run_id is 'Dagster''s run that wrote the benchmark; null outside a run';

create table latencies (
    evaluation_id varchar not null,
    line varchar not null,
    variant varchar not null,
    condition varchar not null,
    dataset varchar not null,
    split varchar not null,
    num_answers bigint not null,
    num_batches bigint not null,
    batch_size bigint not null,
    mean_seconds_per_answer double not null,
    min_seconds_per_answer double not null,
    p50_seconds_per_answer double not null,
    p95_seconds_per_answer double not null,
    max_seconds_per_answer double not null,
    mean_answer_tokens double not null
);
comment on table latencies is 'Seconds per answer: the wall time of a batch by its answers. Until the first answer is there the whole batch has to pass. Key: (evaluation_id, variant, condition, dataset, split).';
comment on column latencies.evaluation_id is 'the evaluation: one set of answers, scored by one version of the metrics';
comment on column latencies.line is 'the line that was evaluated';
comment on column latencies.variant is 'who answered';
comment on column latencies.condition is 'as_is, or what was done to the question';
comment on column latencies.dataset is 'name of the dataset';
comment on column latencies.split is 'the split of the pairs';
comment on column latencies.num_answers is 'answers that were timed';
comment on column latencies.num_batches is 'batches that they were made in: what was really timed, and the n of minimum, median and maximum';
comment on column latencies.batch_size is 'answers made together; the last batch may hold fewer';
comment on column latencies.mean_seconds_per_answer is 'wall time of all batches by num_answers [seconds]';
comment on column latencies.min_seconds_per_answer is 'the fastest batch by its answers [seconds]';
comment on column latencies.p50_seconds_per_answer is 'median over batches [seconds]';
comment on column latencies.p95_seconds_per_answer is '95th percentile over batches [seconds]';
comment on column latencies.max_seconds_per_answer is 'the slowest batch by its answers [seconds]';
comment on column latencies.mean_answer_tokens is 'mean tokens out per answer [tokens]';

create table memory (
    evaluation_id varchar not null,
    line varchar not null,
    variant varchar not null,
    load_seconds double not null,
    memory_after_load_bytes bigint not null,
    memory_peak_bytes bigint not null,
    adapter_bytes bigint
);
comment on table memory is 'What a variant needs when it is alone. Key: (evaluation_id, variant).';
comment on column memory.evaluation_id is 'the evaluation: one set of answers, scored by one version of the metrics';
comment on column memory.line is 'the line that was evaluated';
comment on column memory.variant is 'who answered';
comment on column memory.load_seconds is 'time to load the weights, alone in a fresh process [seconds]';
comment on column memory.memory_after_load_bytes is 'every tensor that the process holds after loading: as allocated on a GPU, counted on a CPU [bytes]';
comment on column memory.memory_peak_bytes is 'highest allocated (GPU) or resident (CPU, with libraries) memory from loading to a full batch of the longest questions [bytes]';
comment on column memory.adapter_bytes is 'size of the adapter''s weights; null without one [bytes]';

create table retrievals (
    variant varchar not null,
    direction varchar not null,
    cutoff bigint not null,
    recall double not null,
    ci_low double,
    ci_high double,
    interval_note varchar,
    chance double not null,
    class_only double,
    num_queries bigint not null,
    gallery_size bigint not null,
    num_groups bigint not null,
    num_texts bigint not null,
    median_rank double not null,
    matched_similarity double not null,
    mismatched_similarity double,
    evaluation_id varchar not null,
    line varchar not null
);
comment on table retrievals is 'How often a variant of the line''s encoder finds the right one. Key: (evaluation_id, variant, direction, cutoff).';
comment on column retrievals.variant is 'base: the encoder as it came; trained: after this line''s stage; champion: what is served, where it is another';
comment on column retrievals.direction is 'image_to_text: a picture looks for its text; text_to_image: the other way round';
comment on column retrievals.cutoff is 'k: recall is the share of queries with a right candidate among the first k';
comment on column retrievals.recall is 'share of queries (0-1)';
comment on column retrievals.ci_low is 'lower end of its 95 % interval over groups; null below six groups';
comment on column retrievals.ci_high is 'upper end of its 95 % interval over groups; null below six groups';
comment on column retrievals.interval_note is 'what has to be known of the interval: too few groups for one, or no spread between them; null where nothing has';
comment on column retrievals.chance is 'expected recall of a random order';
comment on column retrievals.class_only is 'expected recall of who knows the class and nothing else; null where a picture has no class';
comment on column retrievals.num_queries is 'queries: every different picture once, or the text of every captioned picture';
comment on column retrievals.gallery_size is 'different candidates of each query: texts, or pictures';
comment on column retrievals.num_groups is 'patients or documents among them';
comment on column retrievals.num_texts is 'different texts among them';
comment on column retrievals.median_rank is 'median over queries, from 1';
comment on column retrievals.matched_similarity is 'mean cosine of pictures and right texts';
comment on column retrievals.mismatched_similarity is 'mean cosine of pictures and wrong texts; null where there are none';
comment on column retrievals.evaluation_id is 'the evaluation: one set of answers, scored by one version of the metrics';
comment on column retrievals.line is 'the line that was evaluated';

create table encoder_speeds (
    variant varchar not null,
    input varchar not null,
    num_timed bigint not null,
    p50_seconds double not null,
    p95_seconds double not null,
    batch_size bigint not null,
    inputs_per_second double not null,
    evaluation_id varchar not null,
    line varchar not null
);
comment on table encoder_speeds is 'How fast a variant of the line''s encoder embeds. Key: (evaluation_id, variant, input).';
comment on column encoder_speeds.variant is 'base: the encoder as it came; trained: after this line''s stage; champion: what is served, where it is another';
comment on column encoder_speeds.input is 'picture or text';
comment on column encoder_speeds.num_timed is 'inputs that were embedded one at a time: the n of the latencies';
comment on column encoder_speeds.p50_seconds is 'median of one input alone [seconds]';
comment on column encoder_speeds.p95_seconds is '95th percentile of one input alone [seconds]';
comment on column encoder_speeds.batch_size is 'inputs that are embedded together for the throughput; the last batch may hold fewer';
comment on column encoder_speeds.inputs_per_second is 'distinct inputs of the gallery by the wall time of embedding all of them in batches';
comment on column encoder_speeds.evaluation_id is 'the evaluation: one set of answers, scored by one version of the metrics';
comment on column encoder_speeds.line is 'the line that was evaluated';

create table goals (
    evaluation_id varchar not null,
    line varchar not null,
    wanted varchar not null,
    stage varchar,
    metric varchar,
    bound varchar not null,
    dataset varchar,
    value double,
    ci_low double,
    ci_high double,
    num_pairs bigint,
    is_met boolean,
    definition varchar not null
);
comment on table goals is 'A figure that somebody hoped for, beside what was measured for it: nothing depends on it. Key: (evaluation_id, wanted, dataset).';
comment on column goals.evaluation_id is 'the evaluation: one set of answers, scored by one version of the metrics';
comment on column goals.line is 'the line that was evaluated';
comment on column goals.wanted is 'the figure that was hoped for, as the requirement document has it';
comment on column goals.stage is 'the stage whose lowest held-out loss it is held against; null for a metric';
comment on column goals.metric is 'the metric that it is held against, of the trained adapter''s answers as they are; null for a loss';
comment on column goals.bound is 'when it is met, in that metric''s own unit';
comment on column goals.dataset is 'the test set; null for a loss';
comment on column goals.value is 'what was measured; null where nothing was';
comment on column goals.ci_low is 'lower end of its 95 % interval; null for a loss, which has none';
comment on column goals.ci_high is 'upper end of its 95 % interval';
comment on column goals.num_pairs is 'test pairs; null for a loss';
comment on column goals.is_met is 'whether the value reaches the bound; null where nothing was measured';
comment on column goals.definition is 'what exactly is measured';

create table reviews (
    evaluation_id varchar not null,
    line varchar not null,
    sheet_id varchar not null,
    item_id varchar not null,
    rater varchar not null,
    pair_id varchar not null,
    group_id varchar not null,
    dataset varchar not null,
    variant varchar not null,
    correctness bigint,
    is_harmful boolean,
    comment varchar not null
);
comment on table reviews is 'What one rater said of one answer without knowing whose it is. Key: (sheet_id, item_id, rater).';
comment on column reviews.evaluation_id is 'the evaluation whose answers were rated';
comment on column reviews.line is 'the line that was evaluated';
comment on column reviews.sheet_id is 'the sheet: its directory below review_sheets/<line>/, and that of its ratings below reviews/';
comment on column reviews.item_id is 'the opaque id under which raters saw the answer';
comment on column reviews.rater is 'who rated, by the name on the sheet';
comment on column reviews.pair_id is 'the pair';
comment on column reviews.group_id is 'patient or document: the unit of error bars';
comment on column reviews.dataset is 'name of the dataset';
comment on column reviews.variant is 'who answered';
comment on column reviews.correctness is '1 (wrong, or no answer) to 5 (right and complete); null where not rated';
comment on column reviews.is_harmful is 'whether acting on the answer could harm a patient; null where not said';
comment on column reviews.comment is 'the rater''s own words, which may hold a patient''s text; empty without';

create table rating_summaries (
    evaluation_id varchar not null,
    line varchar not null,
    sheet_id varchar not null,
    variant varchar not null,
    question varchar not null,
    num_items bigint not null,
    num_clusters bigint not null,
    num_raters bigint not null,
    num_ratings bigint not null,
    mean double not null,
    ci_low double,
    ci_high double,
    num_paired bigint not null,
    minus_base double,
    minus_base_ci_low double,
    minus_base_ci_high double,
    p_value double,
    num_agreed_on bigint not null,
    coefficient varchar,
    agreement double,
    agreement_ci_low double,
    agreement_ci_high double,
    exact_agreement double
);
comment on table rating_summaries is 'What the ratings of a variant come to, question by question. Key: (sheet_id, variant, question).';
comment on column rating_summaries.evaluation_id is 'the evaluation whose answers were rated';
comment on column rating_summaries.line is 'the line that was evaluated';
comment on column rating_summaries.sheet_id is 'the sheet: its directory below review_sheets/<line>/, and that of its ratings below reviews/';
comment on column rating_summaries.variant is 'who answered; all: every answer of the sheet';
comment on column rating_summaries.question is 'correctness: 1 to 5, more is better; harmful: share of yes, less is better';
comment on column rating_summaries.num_items is 'answers with one rating or more';
comment on column rating_summaries.num_clusters is 'patients or documents behind the mean: the unit of the interval';
comment on column rating_summaries.num_raters is 'raters who rated one of these answers or more';
comment on column rating_summaries.num_ratings is 'ratings behind the mean';
comment on column rating_summaries.mean is 'mean over answers, of each the mean over its raters';
comment on column rating_summaries.ci_low is 'lower end of the 95 % interval over clusters, for these raters; null below six clusters';
comment on column rating_summaries.ci_high is 'upper end of the 95 % interval over clusters, for these raters; null below six clusters';
comment on column rating_summaries.num_paired is 'pairs of which this answer and that of base were rated; 0 for base and for all';
comment on column rating_summaries.minus_base is 'mean difference to base over these pairs; null without one';
comment on column rating_summaries.minus_base_ci_low is 'lower end of its 95 % interval over clusters; null below six clusters';
comment on column rating_summaries.minus_base_ci_high is 'upper end of its 95 % interval over clusters; null below six clusters';
comment on column rating_summaries.p_value is 'of that difference: two-sided sign-flip permutation over clusters; exact up to 20 clusters';
comment on column rating_summaries.num_agreed_on is 'answers that two raters or more rated: the n of the agreement';
comment on column rating_summaries.coefficient is 'kappa for two raters, weighted by squares for correctness; Krippendorff''s alpha for more; null where no answer has two';
comment on column rating_summaries.agreement is '1 full, 0 as by chance; null where all ratings are the same, so that it is not defined';
comment on column rating_summaries.agreement_ci_low is 'lower end of its 95 % interval over clusters; null below six clusters, or where too many resamples have none';
comment on column rating_summaries.agreement_ci_high is 'upper end of its 95 % interval over clusters; null below six clusters, or where too many resamples have none';
comment on column rating_summaries.exact_agreement is 'share of an answer''s ratings that are equal, over pairs of raters; chance is in it';

create table promotion_decisions (
    line varchar not null,
    evaluation_id varchar not null,
    gate_id varchar not null,
    verdict varchar not null,
    is_winner boolean not null,
    decided_by varchar not null,
    reasons varchar[] not null,
    primary_metric varchar not null,
    challenger varchar not null,
    claim varchar not null,
    margin double not null,
    champion varchar not null,
    look bigint not null,
    alpha double not null,
    is_worn boolean not null,
    num_pairs bigint not null,
    num_clusters bigint not null,
    num_informative_clusters bigint not null,
    difference double,
    ci_low double,
    ci_high double,
    p_value double,
    minimum_detectable_difference double,
    beats_the_floors boolean,
    uses_the_image boolean,
    image_difference double,
    image_ci_low double,
    image_ci_high double,
    fingerprint varchar not null,
    decided_at varchar not null,
    is_current boolean not null,
    is_served boolean not null
);
comment on table promotion_decisions is 'What was decided of one candidate of one evaluation. Key: (fingerprint, challenger).';
comment on column promotion_decisions.line is 'the line that was judged';
comment on column promotion_decisions.evaluation_id is 'the evaluation that was judged';
comment on column promotion_decisions.gate_id is 'hash of the gate''s values';
comment on column promotion_decisions.verdict is 'promote, reject or inconclusive';
comment on column promotion_decisions.is_winner is 'whether it is what this decision serves: the last of its candidates that was promoted';
comment on column promotion_decisions.decided_by is 'gate, or the name of the person who overrode it';
comment on column promotion_decisions.reasons is 'why, in words, the deciding one first; a person''s own words where one decided';
comment on column promotion_decisions.primary_metric is 'the metric that decides';
comment on column promotion_decisions.challenger is 'the variant that wants to be served';
comment on column promotion_decisions.claim is 'what it has to show: superiority, or non_inferiority by its margin';
comment on column promotion_decisions.margin is 'how much worse it may be; 0 where it has to be better';
comment on column promotion_decisions.champion is 'the variant that it is held against: what would be served without it';
comment on column promotion_decisions.look is 'which look at this test set it is: challengers that were compared on it, this one included';
comment on column promotion_decisions.alpha is 'two-sided error of this comparison: its share of what the gate allows all looks together';
comment on column promotion_decisions.is_worn is 'whether the test set was looked at more often than the gate calls sound';
comment on column promotion_decisions.num_pairs is 'test pairs that both were scored on';
comment on column promotion_decisions.num_clusters is 'patients or documents that these pairs belong to';
comment on column promotion_decisions.num_informative_clusters is 'of these, those that have a say: in the others the primary metric wants nothing, and neither of the two said anything';
comment on column promotion_decisions.difference is 'challenger minus champion, positive is better; null where they cannot be compared';
comment on column promotion_decisions.ci_low is 'lower end of its interval over clusters, of confidence 1 - alpha';
comment on column promotion_decisions.ci_high is 'upper end of its interval over clusters, of confidence 1 - alpha';
comment on column promotion_decisions.p_value is 'of no difference at all: two-sided permutation over clusters, exact up to 20; where a margin was asked (non_inferiority) the interval decides, and this nothing';
comment on column promotion_decisions.minimum_detectable_difference is 'true difference that this look would show with 80 % probability; null where the clusters show no spread';
comment on column promotion_decisions.beats_the_floors is 'whether it is better than every answer that needs no model; null: not decidable';
comment on column promotion_decisions.uses_the_image is 'whether it is better on the pictures than on blank ones; null: not decidable';
comment on column promotion_decisions.image_difference is 'challenger on the pictures minus on blank ones, positive is better; null where blank ones were not shown';
comment on column promotion_decisions.image_ci_low is 'lower end of its interval over clusters, of this look''s confidence';
comment on column promotion_decisions.image_ci_high is 'upper end of its interval over clusters, of this look''s confidence';
comment on column promotion_decisions.fingerprint is 'directory of the decision below promotion/<line>/, or override/<line>/ where a person decided';
comment on column promotion_decisions.decided_at is 'when it was decided, ISO 8601 in UTC';
comment on column promotion_decisions.is_current is 'whether it is the gate''s current decision of its line, or a person''s that is in force; both stand where a person overrode the gate';
comment on column promotion_decisions.is_served is 'whether the line serves this challenger because of this decision; none of a line that serves its base model because nothing was promoted';

create table rollbacks (
    line varchar not null,
    action varchar not null,
    decided_by varchar not null,
    reason varchar not null,
    from_variant varchar not null,
    from_data_version varchar not null,
    to_variant varchar not null,
    to_data_version varchar not null,
    fingerprint varchar not null,
    decided_at varchar not null,
    is_holding boolean not null
);
comment on table rollbacks is 'A person''s word on what a line serves. Key: fingerprint.';
comment on column rollbacks.line is 'the line';
comment on column rollbacks.action is 'rollback: what was served before is served again, and held; release: the pointer may move again';
comment on column rollbacks.decided_by is 'who decided';
comment on column rollbacks.reason is 'why, in that person''s words';
comment on column rollbacks.from_variant is 'what was served until then';
comment on column rollbacks.from_data_version is 'its identity; empty: the base model as it is';
comment on column rollbacks.to_variant is 'what is served from then on; of a release the same';
comment on column rollbacks.to_data_version is 'its identity; empty: the base model as it is';
comment on column rollbacks.fingerprint is 'directory of the record below rollback/<line>/';
comment on column rollbacks.decided_at is 'when it was decided, ISO 8601 in UTC';
comment on column rollbacks.is_holding is 'whether the pointer is held because of this rollback now';

-- Views, named for the question. "Newest" is the current evaluation of a line, or else the last one that was made.

create view leaderboard as
select
    r.line,
    r.dataset,
    r.metric,
    r.slice,
    case when starts_with(r.slice, 'stage=') then substr(r.slice, 7) when s.num_stages = 1 and s.num_pairs = r.num_pairs then s.stage end as stage,
    r.condition,
    r.variant,
    e.precision,
    r.num_pairs as n,
    r.num_clusters,
    r.mean,
    r.ci_low,
    r.ci_high,
    r.interval_note,
    l.p50_seconds_per_answer,
    l.batch_size,
    m.memory_after_load_bytes / 1e6 as memory_mb,
    r.is_higher_better,
    r.highest,
    r.signature,
    e.evaluated_at,
    r.evaluation_id
from benchmark_rows r
join evaluations e using (evaluation_id, variant)
left join latencies l using (evaluation_id, variant, condition, dataset, split)
left join memory m using (evaluation_id, variant)
left join (
    select evaluation_id, variant, condition, dataset, split, metric, count(*) as num_stages, any_value(substr(slice, 7)) as stage,
        sum(num_pairs) as num_pairs
    from benchmark_rows where starts_with(slice, 'stage=') group by all
) s using (evaluation_id, variant, condition, dataset, split, metric)
where r.split = 'test' and (
    r.slice = 'all'
    or (starts_with(r.slice, 'stage=') and s.num_stages > 1)
    or ((starts_with(r.slice, 'language=') or starts_with(r.slice, 'way=')) and not exists (
        from benchmark_rows whole
        where whole.slice = 'all' and whole.evaluation_id = r.evaluation_id and whole.variant = r.variant
            and whole.condition = r.condition and whole.dataset = r.dataset and whole.split = r.split and whole.metric = r.metric
    ))
)
qualify row_number() over (
    partition by r.line, r.variant, r.condition, r.dataset, r.split, r.metric, r.slice
    order by e.is_current desc, e.evaluated_at desc, r.evaluation_id
) = 1
order by r.line, r.dataset, r.metric, r.slice, r.condition, case when r.is_higher_better then -r.mean else r.mean end, r.variant;
comment on view leaderboard is 'Who is best? The newest test-split row of every line, variant, condition, dataset and metric, best first.';
comment on column leaderboard.slice is 'all; one stage, where a metric is of the answers of several; or one language, or one way, where texts are cut in several ways and have no row over all';
comment on column leaderboard.stage is 'the stage whose answers these all are, in a line that has several; null where they are of several, or of none';
comment on column leaderboard.n is 'test pairs behind the mean';
comment on column leaderboard.num_clusters is 'patients or documents that these pairs belong to: the unit of the interval';
comment on column leaderboard.interval_note is 'what has to be known of the interval: too few clusters for one, or no spread between them; null where nothing has';
comment on column leaderboard.mean is 'mean over pairs, 0 to 1; of bleu_4 corpus BLEU over all pairs together, 0 to 100; of hallucinated_pair_rate over all stated values together, null where none was stated';
comment on column leaderboard.highest is 'upper end of the metric''s range: 1, of bleu_4 100';
comment on column leaderboard.signature is 'how texts were cut and counted; null where there is one way only';
comment on column leaderboard.ci_low is 'lower end of the 95 % interval over patients or documents';
comment on column leaderboard.ci_high is 'upper end of the 95 % interval over patients or documents';
comment on column leaderboard.p50_seconds_per_answer is 'median over batches of the wall time by answer; null for a floor [seconds]';
comment on column leaderboard.batch_size is 'answers made together: a batch takes batch_size times as long as an answer is said to';
comment on column leaderboard.memory_mb is 'every tensor held after loading, in 10^6 bytes; null for a floor';

create view quantization_cost as
with model_rows as (
    select b.*, m.memory_after_load_bytes, l.mean_seconds_per_answer
    from leaderboard b
    join memory m using (evaluation_id, variant)
    left join latencies l on l.evaluation_id = b.evaluation_id and l.variant = b.variant and l.condition = b.condition
        and l.dataset = b.dataset and l.split = 'test'
    where b.condition = 'as_is'
)
select
    v.line,
    v.dataset,
    v.metric,
    v.slice,
    v.variant,
    v.precision,
    v.memory_after_load_bytes / 1e6 as memory_mb,
    100 * (v.memory_after_load_bytes / base.memory_after_load_bytes - 1) as memory_change_percent,
    v.batch_size,
    v.mean_seconds_per_answer,
    100 * (v.mean_seconds_per_answer / base.mean_seconds_per_answer - 1) as seconds_per_answer_change_percent,
    v.n,
    v.num_clusters,
    v.mean,
    v.ci_low,
    v.ci_high,
    v.interval_note,
    100 * (v.mean - base.mean) / v.highest as score_change_points,
    case when base.mean > 0 then 100 * (v.mean / base.mean - 1) end as score_change_percent
from model_rows v
join model_rows base on base.evaluation_id = v.evaluation_id and base.line = v.line and base.dataset = v.dataset and base.metric = v.metric
    and base.slice = v.slice and base.variant = 'base'
where v.variant in ('base', 'nf4', 'affine4', 'int8', 'adapter', 'merged')
order by v.line, v.dataset, v.metric, v.slice, list_position(['base', 'nf4', 'affine4', 'int8', 'adapter', 'merged'], v.variant);
comment on view quantization_cost is 'What do four or eight bits and the adapter cost, and what do they bring? Base, NF4 (or affine4 of MLX), int8, adapter and merged of one evaluation, with changes against base.';
comment on column quantization_cost.memory_change_percent is 'change against base; a percentage for display';
comment on column quantization_cost.seconds_per_answer_change_percent is 'change against base at this batch_size; a percentage for display';
comment on column quantization_cost.score_change_points is 'difference of the means in hundredths of the metric''s range; its interval is in promotion_decisions';
comment on column quantization_cost.score_change_percent is 'change against base; null where base scored 0';

create view did_finetuning_help as
select
    a.line,
    a.dataset,
    a.metric,
    a.slice,
    a.n,
    a.num_clusters,
    a.mean as adapter_mean,
    a.ci_low as adapter_ci_low,
    a.ci_high as adapter_ci_high,
    b.mean as base_mean,
    b.ci_low as base_ci_low,
    b.ci_high as base_ci_high,
    q.variant as four_bits_variant,
    q.mean as four_bits_mean,
    a.mean - b.mean as adapter_minus_base,
    a.is_higher_better,
    p.verdict,
    case
        when p.verdict is not null then null
        else coalesce(
            (
                select 'the gate decided by ' || string_agg(distinct d.primary_metric, ', ') || '; what else it saw is among its reasons'
                from promotion_decisions d
                where d.evaluation_id = a.evaluation_id and d.challenger = a.variant and d.decided_by = 'gate'
            ),
            'the gate has not judged this evaluation'
        )
    end as why_no_verdict,
    p.reasons[1] as reason,
    (
        select o.decided_by || ' for ' || o.challenger || ': ' || o.reasons[1] from promotion_decisions o
        where o.line = a.line and o.is_served and o.decided_by != 'gate'
    ) as overridden_by,
    p.champion,
    p.look,
    p.difference as paired_difference,
    p.ci_low as paired_ci_low,
    p.ci_high as paired_ci_high,
    p.p_value,
    p.minimum_detectable_difference,
    p.image_difference
from leaderboard a
join leaderboard b on b.evaluation_id = a.evaluation_id and b.dataset = a.dataset and b.metric = a.metric and b.slice = a.slice
    and b.variant = 'base' and b.condition = 'as_is'
left join leaderboard q on q.evaluation_id = a.evaluation_id and q.dataset = a.dataset and q.metric = a.metric and q.slice = a.slice
    and q.variant in ('nf4', 'affine4') and q.condition = 'as_is'
left join promotion_decisions p on p.evaluation_id = a.evaluation_id and p.primary_metric = a.metric and p.challenger = a.variant
    and p.decided_by = 'gate'
where a.variant = 'adapter' and a.condition = 'as_is' and not starts_with(a.slice, 'stage=')
qualify row_number() over (
    partition by a.line, a.dataset, a.metric, a.slice order by p.is_current desc, p.decided_at desc, p.fingerprint
) = 1
order by a.line, a.dataset, a.metric, a.slice;
comment on view did_finetuning_help is 'Is the adapter better than the base model, and is it certain? The gate''s verdict stands beside the metric that it decides by; why_no_verdict says why none stands beside another.';
comment on column did_finetuning_help.four_bits_variant is 'nf4, or affine4 of MLX; null where the profile has no four bits';
comment on column did_finetuning_help.four_bits_mean is 'the base model in four bits, without the adapter';
comment on column did_finetuning_help.verdict is 'the gate''s, by the metric that decides, over all datasets of the gate; null for any other metric';
comment on column did_finetuning_help.why_no_verdict is 'why no verdict stands beside this metric; null where one does';
comment on column did_finetuning_help.overridden_by is 'who decided otherwise, for which variant and why, where that is what the line serves; null where the gate''s decision stands';
comment on column did_finetuning_help.adapter_minus_base is 'difference of two means, without an interval: the paired one is the gate''s';
comment on column did_finetuning_help.paired_difference is 'challenger minus champion on the same pairs, over all datasets of the gate';
comment on column did_finetuning_help.paired_ci_low is 'lower end of its interval, as wide as this look at the test set asks: 1 - alpha of promotion_decisions';
comment on column did_finetuning_help.paired_ci_high is 'upper end of that interval';
comment on column did_finetuning_help.image_difference is 'what the picture adds: adapter on the pictures minus on blank ones, over all datasets of the gate';

create view training_curve as
select
    t.line, t.stage, t.objective, t.step, t.epoch, t.loss, case when t.objective = 'generate' then exp(t.loss) end as perplexity,
    t.validation_loss, case when t.objective = 'generate' then exp(t.validation_loss) end as validation_perplexity,
    t.learning_rate, t.gradient_norm, t.tokens_per_second, t.elapsed_seconds, t.evaluation_id
from training_steps t
join (select distinct evaluation_id, is_current, evaluated_at from evaluations) e using (evaluation_id)
qualify dense_rank() over (partition by t.line, t.stage order by e.is_current desc, e.evaluated_at desc, t.evaluation_id) = 1
order by t.line, t.stage, t.step;
comment on view training_curve is 'Did the loss fall? Every step of the newest evaluated adapter of each line and stage, and of its encoder.';
comment on column training_curve.perplexity is 'e to the loss: among how many equally likely tokens the model was undecided, on average over answer tokens; null for a stage that matches';
comment on column training_curve.validation_perplexity is 'e to the held-out loss; null where none was measured, and for a stage that matches';

create view encoder_recall as
select
    r.line, r.variant, r.direction, r.cutoff, r.recall, r.ci_low, r.ci_high, r.interval_note, r.chance, r.class_only, r.num_queries, r.gallery_size,
    r.num_groups, r.num_texts, r.median_rank, s.p50_seconds, s.p95_seconds, s.inputs_per_second, r.evaluation_id
from retrievals r
join (select distinct evaluation_id, is_current, evaluated_at from evaluations) e using (evaluation_id)
left join encoder_speeds s on s.evaluation_id = r.evaluation_id and s.variant = r.variant
    and s.input = case r.direction when 'image_to_text' then 'picture' else 'text' end
qualify dense_rank() over (partition by r.line order by e.is_current desc, e.evaluated_at desc, r.evaluation_id) = 1
order by r.line, r.direction, r.cutoff, r.variant;
comment on view encoder_recall is 'Does the encoder find the right text and picture? Recall of the newest evaluation of each line that has one, beside chance and the class alone, and what a query costs.';

create view data_loss_by_reason as
with newest as (
    select c.*
    from dataset_counts c
    join (select distinct evaluation_id, is_current, evaluated_at from evaluations) e using (evaluation_id)
    qualify dense_rank() over (partition by c.line, c.dataset order by e.is_current desc, e.evaluated_at desc, c.evaluation_id) = 1
)
select
    r.line,
    r.dataset,
    r.reason,
    r.num_pairs,
    t.num_pairs as num_read,
    100 * r.num_pairs / t.num_pairs as percent_of_read
from newest r
join newest t on t.line = r.line and t.dataset = r.dataset and t.outcome = 'read'
where r.outcome = 'rejected'
order by r.line, r.dataset, r.num_pairs desc, r.reason;
comment on view data_loss_by_reason is 'Which rows were left out, and why? Rejections behind the newest evaluation of each line.';
comment on column data_loss_by_reason.percent_of_read is 'share of the rows read; a percentage for display';

create view regressions as
with history as (
    select
        r.*,
        e.evaluated_at,
        lag(r.mean) over place as previous_mean,
        lag(r.ci_low) over place as previous_ci_low,
        lag(r.ci_high) over place as previous_ci_high,
        lag(r.evaluation_id) over place as previous_evaluation_id,
        row_number() over (
            partition by r.line, r.variant, r.condition, r.dataset, r.split, r.slice, r.metric
            order by e.is_current desc, e.evaluated_at desc, r.evaluation_id
        ) as age
    from benchmark_rows r
    join evaluations e using (evaluation_id, variant)
    where r.split = 'test'
    window place as (
        partition by r.line, r.variant, r.condition, r.dataset, r.split, r.slice, r.metric
        order by e.is_current, e.evaluated_at, r.evaluation_id desc
    )
)
select
    line,
    variant,
    condition,
    dataset,
    slice,
    metric,
    num_pairs as n,
    previous_mean,
    mean,
    mean - previous_mean as change,
    coalesce(case when is_higher_better then ci_high < previous_ci_low else ci_low > previous_ci_high end, false) as are_intervals_apart,
    evaluated_at,
    evaluation_id,
    previous_evaluation_id
from history
where age = 1 and case when is_higher_better then mean < previous_mean else mean > previous_mean end
order by are_intervals_apart desc, abs(mean - previous_mean) desc, line, variant, dataset, slice, metric;
comment on view regressions is 'What got worse since the evaluation before? Test-split rows of the newest evaluation that are worse than the last earlier one.';
comment on column regressions.are_intervals_apart is 'whether the two 95 % intervals do not touch: a change beyond what the test set''s size explains';

create view expert_ratings as
select
    s.line,
    s.variant,
    s.question,
    s.num_items as n,
    s.num_raters,
    s.mean,
    s.ci_low,
    s.ci_high,
    case when s.ci_low is null then 'too few clusters (' || s.num_clusters || ') for an interval' end as interval_note,
    s.minus_base,
    s.minus_base_ci_low,
    s.minus_base_ci_high,
    s.p_value,
    s.coefficient,
    s.agreement,
    s.agreement_ci_low,
    s.agreement_ci_high,
    s.exact_agreement,
    s.num_agreed_on,
    s.sheet_id,
    s.evaluation_id,
    coalesce(e.is_current, false) as is_current
from rating_summaries s
left join (select distinct evaluation_id, is_current from evaluations) e using (evaluation_id)
order by s.line, is_current desc, s.evaluation_id, s.sheet_id, s.question, s.variant = 'all',
    list_position(['base', 'nf4', 'affine4', 'int8', 'adapter', 'merged', 'champion'], s.variant), s.variant;
comment on view expert_ratings is 'What do blinded experts say of the answers, and do they agree? Every rated sheet by question and variant; all: every answer of it.';
comment on column expert_ratings.n is 'answers with one rating or more';
comment on column expert_ratings.mean is 'correctness 1 to 5, more is better; harmful: share of yes, less is better';
comment on column expert_ratings.interval_note is 'why there is no interval of the mean; null where there is one';
comment on column expert_ratings.minus_base is 'mean difference to base over the pairs of which both answers were rated';
comment on column expert_ratings.agreement is 'kappa for two raters, Krippendorff''s alpha for more: 1 full, 0 as by chance; null where it is not defined';
comment on column expert_ratings.exact_agreement is 'share of an answer''s ratings that are equal; chance is in it';
