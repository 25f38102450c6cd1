"""The section `[labels]` of a mapping: where labels are, what they mean, when they are known."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from feature_defs.labels import LabelPolicy
from jobs.deliveries.mapping_section import Name, Section, relative_path


class LabelColumns(Section):
    """The source column of each label column; without `source`, the label source is `delivery`."""

    transaction_id: Name | None = None
    is_fraud: Name
    label_time: Name | None = None
    source: Name | None = None


class LabelValues(Section):
    """What the texts of the column `is_fraud` mean; a text of neither list is quarantined."""

    fraud: tuple[Name, ...] = Field(min_length=1)
    genuine: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _lists_are_disjoint(self) -> LabelValues:
        both = sorted({text.strip() for text in self.fraud} & {t.strip() for t in self.genuine})
        if both:
            raise ValueError(f"{', '.join(both)} cannot be both fraud and genuine")
        return self


class Labels(Section):
    """The labels: their location, and when a label becomes known."""

    path: str | None = None
    """Path below the source; unset when the labels are columns of the transactions."""
    completeness: Literal["complete", "frauds_only"]
    business_date: Name | None = None
    label_delay_days: int | None = Field(None, ge=0)
    """Days from the event until its label is known; used when there is no label time column."""
    maturity_days: int | None = Field(None, ge=0)
    """Days after which an unlabelled transaction counts as not fraud (`frauds_only`)."""
    columns: LabelColumns
    values: LabelValues | None = None
    """Unset: yes and no are 1 and 0, or words such as true and false."""

    @field_validator("path")
    @classmethod
    def _path_is_below_source(cls, path: str | None) -> str | None:
        return None if path is None else relative_path(path)

    @model_validator(mode="after")
    def _options_are_consistent(self) -> Labels:
        errors = []
        if self.completeness == "frauds_only" and self.maturity_days is None:
            errors.append("frauds_only needs maturity_days")
        if (self.columns.label_time is None) == (self.label_delay_days is None):
            errors.append("set either columns.label_time or label_delay_days")
        if self.path is not None:
            if self.label_delay_days is not None:
                errors.append("a separate label source has no event times: set columns.label_time")
            if self.columns.transaction_id is None:
                errors.append("a separate label source needs columns.transaction_id")
            if self.business_date is None:
                errors.append("a separate label source needs business_date")
        elif self.business_date is not None or self.columns.transaction_id is not None:
            errors.append("business_date and columns.transaction_id need a separate label source")
        if errors:
            raise ValueError("; ".join(errors))
        return self

    @property
    def policy(self) -> LabelPolicy:
        """Return what a missing label means."""
        return LabelPolicy(self.maturity_days if self.completeness == "frauds_only" else None)
