"""Sentiment of movie-review phrases: https://www.kaggle.com/c/sentiment-analysis-on-movie-reviews."""

from unroll.tasks import Remote, TableFiles, Task

TASK = Task(
    name="sentiment",
    title="Sentiment of movie-review phrases",
    folder="sentiment-analysis-on-movie-reviews",
    files=TableFiles(
        train="train.tsv",
        test="test.tsv",
        sample_submission="sampleSubmission.csv",
        separator="\t",
        row_id="PhraseId",
        group="SentenceId",
        text="Phrase",
        label="Sentiment",
    ),
    remote=Remote(competition="sentiment-analysis-on-movie-reviews"),
    labels=("0", "1", "2", "3", "4"),
    label_names=("negative", "somewhat negative", "neutral", "somewhat positive", "positive"),
    group_word="sentence",
    metric="accuracy",
    id_column="PhraseId",
    label_column="Sentiment",
)
