"""The language of a surname, letter by letter, after PyTorch's tutorial on classifying names with a character RNN."""

from unroll.tasks import LabelledFolder, Remote, Task

LANGUAGES = (
    "Arabic", "Chinese", "Czech", "Dutch", "English", "French", "German", "Greek", "Irish",
    "Italian", "Japanese", "Korean", "Polish", "Portuguese", "Russian", "Scottish", "Spanish", "Vietnamese",
)  # fmt: skip

TASK = Task(
    name="surnames",
    title="The language of a surname",
    folder="surnames",
    files=LabelledFolder(folder="names", suffix=".txt"),
    remote=Remote(archive_url="https://download.pytorch.org/tutorial/data.zip", archive_folder="data/names"),
    labels=LANGUAGES,
    label_names=LANGUAGES,
    group_word="different name",
    metric="accuracy",
    id_column="NameId",
    label_column="Language",
)
