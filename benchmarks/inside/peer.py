"""The first fold of the baseline as a project without expkit trains it, recorded by a peer; and its list of runs.

python peer.py EXPERIMENT bare|mlflow|trackio train SEED FOLDER
python peer.py EXPERIMENT mlflow|trackio fill FIRST COUNT    # as if so many had been trained
python peer.py EXPERIMENT mlflow list
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

CONFIG = {"hidden": 64, "epochs": 30, "batch_size": 1000, "learning_rate": 1e-3, "fold": 0}


def bare_train(seed: int, folder: Path, log=lambda values, step: None) -> None:
    """Train; the folder gets the model, the predictions, the values of the epochs and the score."""
    import numpy
    from sklearn.model_selection import StratifiedKFold

    import model

    data = model.load_data()
    train, valid = next(StratifiedKFold(5, shuffle=True, random_state=42).split(data.X, data.y))
    network, rows = model.make_network(SimpleNamespace(**CONFIG), seed), []
    for epoch in range(1, CONFIG["epochs"] + 1):
        network.partial_fit(data.X[train], data.y[train], classes=model.CLASSES)
        accuracy = float((network.predict(data.X[valid]) == data.y[valid]).mean())
        rows.append({"train_loss": float(network.loss_), "valid_accuracy": accuracy})
        log(rows[-1], epoch)
    log({"accuracy": accuracy}, CONFIG["epochs"] + 1)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(network, folder / "model.joblib")
    oof = {"id": data.id[valid], "target": data.y[valid]} | model.predict(network, data.X[valid])
    numpy.savez(folder / "oof.npz", **oof)
    numpy.savez(folder / "test.npz", id=data.test_id, **model.predict(network, data.test_X))
    (folder / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "metrics.json").write_text(json.dumps({"accuracy": accuracy}) + "\n")


def mlflow_train(seed: int, folder: Path) -> None:
    import mlflow

    with mlflow.start_run():
        mlflow.log_params(CONFIG | {"seed": seed})
        bare_train(seed, folder, lambda values, step: mlflow.log_metrics(values, step=step))
        mlflow.log_artifacts(str(folder))


def mlflow_fill(first: int, count: int) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient()
    for number in range(first, count):
        run, score = client.create_run("0", run_name=f"run{number}").info.run_id, 1 / (number + 1)
        params = [Param(key, str(value)) for key, value in (CONFIG | {"seed": number}).items()]
        steps = range(CONFIG["epochs"])
        metrics = [Metric(name, score, 0, step) for name in ("train_loss", "valid_accuracy") for step in steps]
        client.log_batch(run, [*metrics, Metric("accuracy", score, 0, len(steps))], params)
        client.set_terminated(run)


def mlflow_list() -> None:
    import mlflow

    print(mlflow.search_runs(["0"], order_by=["metrics.accuracy DESC"]).to_string())


def trackio_train(seed: int, folder: Path) -> None:
    import trackio

    trackio.init(project="peer", config=CONFIG | {"seed": seed}, auto_log_cpu=False, auto_log_gpu=False)
    bare_train(seed, folder, lambda values, step: trackio.log(values, step=step))
    trackio.finish()


def trackio_fill(first: int, count: int) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    for number in range(first, count):
        score = 1 / (number + 1)
        rows = [{"train_loss": score, "valid_accuracy": score}] * CONFIG["epochs"] + [{"accuracy": score}]
        SQLiteStorage.bulk_log("peer", f"run{number}", rows, config=CONFIG | {"seed": number})


if __name__ == "__main__":
    experiment, peer, action, *words = sys.argv[1:]
    sys.path.insert(0, experiment)
    globals()[f"{peer}_{action}"](*(int(word) if word.isdigit() else Path(word) for word in words))
