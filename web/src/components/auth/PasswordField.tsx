import { useState, type Ref } from "react";
import { useTranslation } from "react-i18next";
import { IconButton } from "@/components/common/IconButton";
import { TextField } from "@/components/common/TextField";
import { Eye, EyeOff } from "@/design/icons";

export interface PasswordFieldProps {
  readonly label: string;
  readonly value: string;
  readonly onChange: (value: string) => void;
  /** What password managers offer: the known one, or a new one. */
  readonly autoComplete: "current-password" | "new-password";
  readonly hint?: string | undefined;
  readonly error?: string | null;
  readonly ref?: Ref<HTMLInputElement>;
}

/** A password, which can be shown while it is typed. */
export function PasswordField({ value, onChange, hint, ...rest }: PasswordFieldProps) {
  const { t } = useTranslation();
  const [isShown, setIsShown] = useState(false);
  return (
    <TextField
      {...rest}
      {...(hint === undefined ? {} : { hint })}
      type={isShown ? "text" : "password"}
      name="password"
      required
      spellCheck={false}
      autoCapitalize="none"
      value={value}
      onChange={(event) => {
        onChange(event.target.value);
      }}
      trailing={
        <IconButton
          size="sm"
          icon={isShown ? EyeOff : Eye}
          label={isShown ? t("auth.hidePassword") : t("auth.showPassword")}
          aria-pressed={isShown}
          onClick={() => {
            setIsShown(!isShown);
          }}
        />
      }
    />
  );
}
