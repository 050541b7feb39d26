import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { AccountMenu } from "@/components/auth/AccountMenu";
import { SessionProvider } from "@/components/auth/session";
import { SessionGate } from "@/components/auth/SessionGate";
import { createSession } from "@/lib/api/auth";
import { axeFindings } from "../../tests/axe";
import { prepareGallery } from "../../tests/gallery";

interface Answer {
  readonly status: number;
  readonly body?: unknown;
}

const USER = { userId: "u1", email: "ann@example.com", createdAt: null, tenant: "u1", scopes: [] };
const SESSION = { token: "t", refreshToken: "r", tokenType: "Bearer", expiresIn: 900, user: USER };
const refusal = (status: number, reason: string, more: object = {}): Answer => ({
  status,
  body: { status, reason, detail: `detail of ${reason}`, ...more },
});

/** A gateway by path; what has no answer refuses the token. */
function answerWith(answers: Readonly<Record<string, Answer>>, isKeyless = false) {
  const asked: { readonly path: string; readonly body: unknown }[] = [];
  vi.stubGlobal("fetch", async (input: RequestInfo | URL, init?: RequestInit) => {
    const request = new Request(
      new URL(String(input instanceof Request ? input.url : input), "http://localhost"),
      init,
    );
    const path = new URL(request.url).pathname;
    const sent = input instanceof Request ? await input.text() : await request.text();
    asked.push({ path, body: sent === "" ? null : (JSON.parse(sent) as unknown) });
    const hasToken = (input instanceof Request ? input : request).headers.has("authorization");
    const access = { status: 200, body: { needsToken: !isKeyless, hasAccounts: !isKeyless } };
    const isRefused = path === "/api/auth/me" && !hasToken && !isKeyless;
    const known: Readonly<Record<string, Answer>> = {
      "/api/auth/access": access,
      ...(isRefused ? {} : answers),
    };
    const { status, body } = known[path] ?? refusal(401, "NO_CREDENTIALS");
    return new Response(status === 204 ? null : JSON.stringify(body), {
      status,
      headers: { "content-type": "application/json" },
    });
  });
  return asked;
}

function show(link: string | null = null) {
  const session = createSession({ baseUrl: "http://localhost", channel: null });
  return render(
    <QueryClientProvider client={new QueryClient()}>
      <SessionProvider value={session}>
        <SessionGate link={link}>
          <p>inside</p>
          <AccountMenu />
        </SessionGate>
      </SessionProvider>
    </QueryClientProvider>,
  );
}

async function fill(email: string, password: string) {
  await userEvent.type(await screen.findByLabelText("Email address"), email);
  await userEvent.type(screen.getByLabelText(/^(New )?[Pp]assword$/u), `${password}{Enter}`);
}

beforeEach(async () => {
  localStorage.clear();
  await prepareGallery();
});

describe("LoginPage", () => {
  it("has what password managers look for, and no findings", async () => {
    answerWith({});
    const { container } = show();
    const email = await screen.findByLabelText("Email address");
    expect(email.getAttribute("autocomplete")).toBe("username");
    expect(screen.getByLabelText("Password").getAttribute("autocomplete")).toBe("current-password");
    expect(await axeFindings(container)).toEqual([]);
    await userEvent.click(screen.getByRole("tab", { name: "Register" }));
    expect(screen.getByLabelText("New password").getAttribute("autocomplete")).toBe("new-password");
    expect(await axeFindings(container)).toEqual([]);
  });

  it("shows the password on request", async () => {
    answerWith({});
    show();
    const password = await screen.findByLabelText("Password");
    await userEvent.click(screen.getByRole("button", { name: "Show the password" }));
    expect(password.getAttribute("type")).toBe("text");
  });

  it("lets in, and shows who that is", async () => {
    answerWith({
      "/api/auth/login": { status: 200, body: SESSION },
      "/api/auth/me": { status: 200, body: USER },
    });
    show();
    await fill(" ann@example.com", "correct horse");
    await screen.findByText("inside");
    expect(await screen.findByRole("button", { name: "Account of ann@example.com" })).toBeTruthy();
  });

  it("says at the field what is wrong, before anything is sent", async () => {
    const asked = answerWith({});
    show();
    await fill("ann", "x");
    const email = screen.getByLabelText("Email address");
    expect(email.getAttribute("aria-invalid")).toBe("true");
    expect(document.activeElement).toBe(email);
    expect(asked.filter(({ path }) => path === "/api/auth/login")).toEqual([]);
  });

  it("says that the credentials are wrong", async () => {
    answerWith({ "/api/auth/login": refusal(401, "WRONG_CREDENTIALS") });
    show();
    await fill("ann@example.com", "wrong horse");
    expect(await screen.findByText(/address or the password is wrong/u)).toBeTruthy();
  });

  it("counts down when there were too many attempts, and sends none before", async () => {
    const limited = refusal(429, "RATE_LIMITED", { retryAfterSeconds: 42 });
    const asked = answerWith({ "/api/auth/login": limited });
    show();
    await fill("ann@example.com", "wrong horse");
    await screen.findByText(/again in 4\d sec/u);
    await userEvent.click(screen.getByRole("button", { name: "Log in" }));
    expect(asked.filter(({ path }) => path === "/api/auth/login")).toHaveLength(1);
  });

  it("does not let in by the imitated session of a known address", async () => {
    answerWith({ "/api/auth/register": { status: 201, body: SESSION } });
    show();
    await userEvent.click(await screen.findByRole("tab", { name: "Register" }));
    await fill("ann@example.com", "another horse");
    expect(await screen.findByText(/registered already/u)).toBeTruthy();
    expect(screen.queryByText("inside")).toBeNull();
  });

  it("explains that a server has no accounts", async () => {
    answerWith({ "/api/auth/login": refusal(501, "ACCOUNTS_DISABLED") });
    show();
    await fill("ann@example.com", "correct horse");
    expect(await screen.findByText(/identity provider/u)).toBeTruthy();
  });
});

describe("a log-in link", () => {
  it("is used once, before anything else", async () => {
    const asked = answerWith({
      "/api/auth/link": { status: 200, body: SESSION },
      "/api/auth/me": { status: 200, body: USER },
    });
    show("slk_abc");
    await screen.findByText("inside");
    expect(asked[0]).toEqual({ path: "/api/auth/link", body: { link: "slk_abc" } });
    expect(asked.filter(({ path }) => path === "/api/auth/link")).toHaveLength(1);
  });

  it("that has ended is explained above the form", async () => {
    answerWith({ "/api/auth/link": refusal(401, "LINK_ENDED") });
    show("slk_old");
    expect((await screen.findByRole("alert")).textContent).toMatch(/does not work any more/u);
    expect(screen.getByLabelText("Email address")).toBeTruthy();
  });

  it("that has ended does not keep out where no log-in is needed", async () => {
    answerWith(
      {
        "/api/auth/link": refusal(401, "LINK_ENDED"),
        "/api/auth/me": { status: 200, body: { ...USER, email: null } },
      },
      true,
    );
    show("slk_old");
    await screen.findByText("inside");
  });
});

it("logging out shows the log-in, and says so", async () => {
  const asked = answerWith({
    "/api/auth/login": { status: 200, body: SESSION },
    "/api/auth/me": { status: 200, body: USER },
    "/api/auth/logout": { status: 204 },
  });
  show();
  await fill("ann@example.com", "correct horse");
  await userEvent.click(await screen.findByRole("button", { name: /^Account of/u }));
  await userEvent.click(screen.getByRole("menuitem", { name: "Log out" }));
  await screen.findByText("You are logged out in all tabs.");
  await waitFor(() => {
    expect(asked.at(-1)).toEqual({ path: "/api/auth/logout", body: { refreshToken: "r" } });
  });
});
